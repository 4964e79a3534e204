"""The autoencoder of the bundled model: 128x128 pixels <-> 16x16 latents, a genuine AutoencoderKL of factor 8."""

import math

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from experiments.world.model.parallel import device

KL_WEIGHT = 2e-5  # of the divergence of one latent pixel
HALVED = 0.25  # weight of the loss of halved latents, decoded to halved images
LOG_VARIANCE = -4.0  # of an untrained posterior
CHANNELS = {"small": (16, 32, 64, 64), "large": (32, 64, 96, 128)}
LATENTS = 12
SIDE = 16  # latent pixels of an image's side


def new_vae(channels: tuple[int, ...] = CHANNELS["small"], latents: int = LATENTS) -> AutoencoderKL:
    """An untrained autoencoder, factor 8."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
    )
    start_linear(vae)
    start_certain(vae)
    return vae


@torch.no_grad()
def start_certain(vae: AutoencoderKL) -> None:
    """Let the posterior begin narrow; it is wide by default, and the decoder would wait until it is not."""
    count = vae.config.latent_channels
    vae.quant_conv.weight[count:] = 0
    vae.quant_conv.bias[count:] = LOG_VARIANCE


@torch.no_grad()
def start_linear(model: nn.Module) -> None:
    """Let every residual block begin as its shortcut: what is linear in the task is learned first, and fast."""
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()


def pixels(images: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) -> float (n, 3, h, w) in [-1, 1], on the device."""
    return torch.tensor(images, device=device()).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


def distance(out: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """(absolute, squared and gradient error together, the squared error alone)."""
    difference = out.float() - image
    squared = difference.square().mean()
    across = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 4 * squared + 0.5 * across, squared


def loss(vae: AutoencoderKL, image: Tensor) -> tuple[Tensor, Tensor]:
    """(the training loss, the mean squared error).

    Half of the latents are decoded at half size too: latents that survive it are smooth, and easier to learn for the UNet.
    """
    with torch.autocast(image.device.type, torch.bfloat16, enabled=image.is_cuda):
        posterior = vae.encode(image).latent_dist
        latents = posterior.sample()
        out = vae.decode(latents).sample
        few = slice(0, len(image) // 2)
        halved = vae.decode(avg_pool2d(latents[few], 2)).sample
    value, squared = distance(out, image)
    coarse, _ = distance(halved, avg_pool2d(image[few], 2))
    divergence = posterior.kl().float().mean() / latents[0, 0].numel()
    return value + HALVED * coarse + KL_WEIGHT * divergence, squared


def psnr(squared: float) -> float:
    """Peak signal to noise ratio in dB of a mean squared error of pixels in [-1, 1]."""
    return -10 * math.log10(squared / 4)


@torch.no_grad()
def measured(vae: AutoencoderKL, images: np.ndarray) -> float:
    """The mean over images (n, h, w, 3) of the PSNR of their posterior mean decoded."""
    values = []
    for part in np.array_split(images, max(1, len(images) // 8)):
        image = pixels(part)
        out = vae.decode(vae.encode(image).latent_dist.mean).sample.clamp(-1, 1)
        values += [psnr(float(error)) for error in (out - image).square().mean(dim=(1, 2, 3))]
    return float(np.mean(values))


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: np.ndarray) -> None:
    """Fold a mean of zero of every latent channel, and a variance of one of all, into the 1x1 convolutions around the latents.

    Channels keep their own variances: what matters most for the picture stands out longest from the noise. Stable Diffusion
    pipelines know one scaling factor only; after this it is one.
    """
    latents = torch.cat([vae.encode(pixels(part)).latent_dist.mean for part in np.array_split(images, 64)])
    mean = latents.mean(dim=(0, 2, 3))
    std = (latents - mean[:, None, None]).square().mean().sqrt()
    into, out_of = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    out_of.bias += torch.einsum("oi,i->o", out_of.weight[:, :, 0, 0], mean)
    out_of.weight *= std
    into.weight[:channels] /= std
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()
    vae.register_to_config(scaling_factor=1.0)
