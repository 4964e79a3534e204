"""The autoencoder's training, and the encoding of a training set with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from experiments.world.model import data
from experiments.world.model.autoencoder import (
    CHANNELS,
    SIDE,
    distance,
    loss,
    measured,
    new_vae,
    pixels,
    psnr,
    standardise,
)
from experiments.world.model.parallel import device, wait_for_all
from experiments.world.model.training import Plan, Training

MEASURED = 100  # unseen scenes
CHUNK = 256 if torch.cuda.is_available() else 16  # images encoded at a time
CHUNKS = 16  # that many, until the next message to those who wait


def crops(images: np.ndarray, rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Random squares (count, size, size, 3) of random images."""
    out = np.empty((count, size, size, 3), np.uint8)
    top, left = rng.integers(0, images.shape[1] - size + 1, (2, count))
    for i, row in enumerate(rng.integers(0, len(images), count)):
        out[i] = images[row, top[i] : top[i] + size, left[i] : left[i] + size]
    return out


@dataclass(frozen=True)
class Crops:
    """The sizes of an autoencoder's training samples."""

    small: int = 32  # pixels of a crop at first: many steps
    large: int = 96  # from `widen_at` on: GroupNorm has to meet whole things
    widen_at: float = 0.6  # share of the budget
    batch: int = 16  # small crops a step and process; of large ones as many as have the same pixels

    def at(self, fraction: float) -> tuple[int, int]:
        """(crops, their size) at a share of the budget."""
        if fraction < self.widen_at:
            return self.batch, self.small
        return max(2, self.batch * self.small**2 // self.large**2), self.large


def plan(seconds: float) -> Plan:
    """How it is trained."""
    return Plan(seconds, rate=2e-3, rest=1e-3, decay_from=0.4, average=0.998)


def sizes(*, gpu: bool) -> Crops:
    """The training samples: few and small at a time on a CPU."""
    return Crops(large=128, batch=512) if gpu else Crops(batch=8)


def train(rank: int, processes: int, folder: Path, plan: Plan, sizes: Crops, width: str = "small") -> None:
    """Train the autoencoder within the plan's budget, or what of it is left, and save it to vae/."""
    torch.manual_seed(0)
    vae = new_vae(CHANNELS[width]).to(device())
    training = Training.begin([vae], folder / "vae.pt", plan, data.marks(folder))
    torch.manual_seed(1000 * training.step + rank)
    fit(training, lambda image: loss(vae, image), folder, sizes, (rank, processes))
    if rank == 0:
        standardise(vae, data.images(folder)[:1024])
        keep(vae, folder)


def sharpen(rank: int, processes: int, folder: Path, plan: Plan, sizes: Crops) -> None:
    """Train the decoder alone further and save vae/ again: latents keep their meaning, and so does a UNet that knows them."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device())
    vae.encoder.requires_grad_(requires_grad=False)
    vae.quant_conv.requires_grad_(requires_grad=False)
    training = Training.begin([vae], folder / "decoder.pt", plan, data.marks(folder))
    torch.manual_seed(1000 * training.step + rank)

    def decoded(image: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=image.is_cuda):
            with torch.no_grad():
                latents = vae.encode(image).latent_dist.sample()
            out = vae.decode(latents).sample
        return distance(out, image)

    fit(training, decoded, folder, sizes, (rank, processes))
    if rank == 0:
        keep(vae, folder)


def fit(
    training: Training,
    loss_of: Callable[[Tensor], tuple[Tensor, Tensor]],
    folder: Path,
    sizes: Crops,
    place: tuple[int, int],
) -> None:
    """Train on crops until the budget is used up, and end with the averaged weights; `place` is (rank, processes)."""
    rank, processes = place
    images, rng = data.images(folder), np.random.default_rng((rank, training.step))
    going, smooth = not training.progress.done, 0.1
    while going:
        batch, side = sizes.at(training.progress.fraction)
        value, squared = loss_of(pixels(crops(images, rng, batch, side)))
        going = training.advance(value, batch * processes)
        smooth += 0.02 * (squared.item() - smooth)
        if rank == 0 and training.step % 100 == 0:
            print(f"vae: psnr {psnr(smooth):.2f} dB, crops of {side}, step {training.step}, {training.progress}", flush=True)
        if rank == 0 and training.save_is_due:
            training.save()
    training.average.copy_to(training.parameters)


def keep(vae: AutoencoderKL, folder: Path) -> None:
    """Save the autoencoder and say how good it is."""
    vae.save_pretrained(folder / "vae")
    print(f"vae: {measured(vae, data.unseen(folder, MEASURED)):.2f} dB on {MEASURED} unseen scenes", flush=True)


@torch.no_grad()
def encode_all(rank: int, processes: int, folder: Path, until: int | None = None) -> None:
    """Encode the training images, or those before `until`, into latents.npy (float16 means of the posterior).

    latents.count says how many are ready. The UNet may train on these while the rest is encoded, and an interrupted
    run goes on there.
    """
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device()).eval()
    images, path = data.images(folder), folder / "latents.npy"
    end = min(until or len(images), len(images))
    if rank == 0 and not path.exists():
        shape = (len(images), vae.config.latent_channels, SIDE, SIDE)
        np.lib.format.open_memmap(path, "w+", np.float16, shape).flush()
        (folder / data.READY).write_text("0")
    wait_for_all()
    latents, begin = np.lib.format.open_memmap(path, "r+"), data.ready(folder)
    while begin < end:
        stop = min(begin + CHUNKS * CHUNK * processes, end)
        for start in range(begin + rank * CHUNK, stop, processes * CHUNK):
            part = slice(start, min(start + CHUNK, stop))
            with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):
                latents[part] = vae.encode(pixels(images[part])).latent_dist.mean.float().cpu().numpy()
        latents.flush()
        wait_for_all()
        begin = stop
        if rank == 0:
            (folder / data.READY).write_text(str(stop))
    wait_for_all()
