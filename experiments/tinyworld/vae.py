"""The autoencoder of the bundled model: 64x64 pixels <-> 4x16x16 latents, a genuine AutoencoderKL."""

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from experiments.tinyworld import data
from experiments.tinyworld.training import Training, device, wait_for_all

KL_WEIGHT = 1e-5
LEARNING_RATE = 1.5e-3


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder, factor 4."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
    )


def pixels(images: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) -> float (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


def loss(vae: AutoencoderKL, image: Tensor) -> tuple[Tensor, Tensor]:
    """(the training loss, the mean squared error): absolute and squared error, error of gradients, a little KL."""
    with torch.autocast(image.device.type, torch.bfloat16):
        posterior = vae.encode(image).latent_dist
        out = vae.decode(posterior.sample()).sample
    difference = out.float() - image
    squared = difference.square().mean()
    across = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 2 * squared + 0.5 * across + KL_WEIGHT * posterior.kl().float().mean(), squared


def train(rank: int, processes: int, folder: Path, seconds: float, batch: int) -> None:
    """Train the autoencoder for `seconds` in all, or what of it is left, and save it to vae/."""
    torch.manual_seed(0)
    vae = new_vae().to(device())
    training = Training.begin([vae], folder / "vae.pt", budget=seconds, learning_rate=LEARNING_RATE, decay_from=0.4)
    torch.manual_seed(1000 * training.step + rank)
    images = data.images(folder)
    rng = np.random.default_rng((rank, training.step))
    going = not training.progress.done
    while going:
        image = pixels(images[np.sort(rng.choice(len(images), batch, replace=False))]).to(device())
        value, squared = loss(vae, image)
        going = training.advance(value, batch * processes)
        if rank == 0 and training.step % 200 == 0:
            print(f"vae: psnr {-10 * math.log10(squared.item() / 4):.2f} dB, {training.progress}", flush=True)
        if rank == 0 and training.save_is_due:
            training.save()
    training.average.copy_to(training.parameters)
    if rank == 0:
        standardise(vae, images[:2048])
        vae.save_pretrained(folder / "vae")


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: np.ndarray) -> None:
    """Fold a mean of zero and a variance of one of every latent channel into the 1x1 convolutions around the latents.

    Stable Diffusion pipelines know one scaling factor only; after this it is one.
    """
    latents = torch.cat([vae.encode(pixels(part).to(device())).latent_dist.mean for part in np.array_split(images, 16)])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out_of = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    out_of.bias += torch.einsum("oi,i->o", out_of.weight[:, :, 0, 0], mean)
    out_of.weight *= std[None, :, None, None]
    into.weight[:channels] /= std[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()
    vae.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def encode_all(rank: int, processes: int, folder: Path) -> None:
    """Encode this process's share of the training images into latents.npy (float16 means of the posterior)."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device()).eval()
    images = data.images(folder)
    partial = folder / "latents.partial.npy"
    if rank == 0:
        np.lib.format.open_memmap(partial, "w+", np.float16, (len(images), 4, 16, 16)).flush()
    wait_for_all()
    latents = np.lib.format.open_memmap(partial, "r+")
    for start in range(rank * 64, len(images), processes * 64):
        part = slice(start, start + 64)
        with torch.autocast(device().type, torch.bfloat16):
            latents[part] = vae.encode(pixels(images[part]).to(device())).latent_dist.mean.float().cpu().numpy()
    latents.flush()
    wait_for_all()
    if rank == 0:
        partial.replace(folder / "latents.npy")
