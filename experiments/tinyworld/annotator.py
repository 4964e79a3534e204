"""The annotator: a small supervised segmenter that plays the human who paints masks of generated images.

It learns from renders and their exact masks alone and never sees an attention map. Generated things are blurrier and more
crooked than renders, so half of its training images pass through the autoencoder and many are bent, noised or recoloured.

`python -m experiments.tinyworld.annotator` trains it, measures it on unseen renders, and writes models/annotator/.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, max_pool2d

from experiments.tinyworld.render import ANNOTATOR_TEST, ANNOTATOR_TRAINING, example
from experiments.tinyworld.shapes import CLASS_NAMES
from experiments.tinyworld.training import Progress, device
from experiments.tinyworld.vae import pixels

FOLDER = Path(__file__).parents[2] / "models" / "annotator"
CLASSES = len(CLASS_NAMES) + 1  # the ground is class 0
LEARNING_RATE = 2e-3
BATCH = 16

Images = NDArray[np.uint8]  # (n, height, width, 3)
Labels = NDArray[np.uint8]  # (n, height, width)
Picture = NDArray[np.uint8]  # (height, width) or (height, width, 3)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(inplace=True),
    )


class Annotator(nn.Module):
    """A U-Net from pixels to classes; works at any size divisible by 8."""

    def __init__(self, channels: Sequence[int] = (20, 40, 80, 128)) -> None:
        super().__init__()
        self.down = nn.ModuleList(block(a, b) for a, b in zip((3, *channels), channels, strict=False))
        pairs = list(zip(channels[::-1], channels[-2::-1], strict=False))
        self.up = nn.ModuleList(block(coarse + fine, fine) for coarse, fine in pairs)
        self.head = nn.Conv2d(channels[0], CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> scores (n, classes, h, w)."""
        skips: list[Tensor] = []
        hidden = image
        for index, stage in enumerate(self.down):
            hidden = stage(max_pool2d(hidden, 2) if index else hidden)
            skips.append(hidden)
        for stage, skip in zip(self.up, skips[-2::-1], strict=True):
            hidden = stage(torch.cat([interpolate(hidden, scale_factor=2), skip], dim=1))
        return self.head(hidden)

    @torch.no_grad()
    def labels(self, images: Images) -> Labels:
        """A class a pixel: 0 the ground, k+1 class k."""
        return self(pixels(images)).argmax(dim=1).byte().numpy()

    def mask(self, image: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
        """Where in an image (height, width, 3) the annotator sees a class."""
        return self.labels(image[None])[0] == CLASS_NAMES.index(name) + 1

    @staticmethod
    def load(folder: Path = FOLDER) -> "Annotator":
        """The trained annotator."""
        annotator = Annotator()
        annotator.load_state_dict(load_file(folder / "annotator.safetensors"))
        return annotator.eval()


def bent(rng: np.random.Generator, image: Picture, label: Picture) -> tuple[Picture, Picture]:
    """Image and labels pushed about by the same smooth random field."""
    size = len(image)
    field = rng.normal(0, rng.uniform(0, 3.5), (5, 5, 2)).astype(np.float32)
    shift = cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    where = (x + shift[..., 0], y + shift[..., 1])
    moved = cv2.remap(image, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    labels = cv2.remap(label, *where, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return moved.astype(np.uint8), labels.astype(np.uint8)


def worn(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with other colours, blurred and noisy."""
    out = image.astype(np.float32)
    if rng.random() < 0.4:
        out = out * rng.uniform(0.75, 1.2, 3) + rng.uniform(-20, 20, 3)
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.3:
        out = out + rng.normal(0, rng.uniform(2, 10), image.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


def batch(rng: np.random.Generator, seeds: Sequence[int], vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """Renders with labels, half of them through the autoencoder with a little noise on the latents."""
    drawings = [example(ANNOTATOR_TRAINING, seed)[0] for seed in seeds]
    pairs = [bent(rng, d.image, d.labels()) if rng.random() < 0.7 else (d.image, d.labels()) for d in drawings]
    images = pixels(np.stack([worn(rng, image) for image, _ in pairs])).to(device())
    half = len(images) // 2
    with torch.no_grad(), torch.autocast(device().type, torch.bfloat16):
        latents = vae.encode(images[:half]).latent_dist.mean
        noise = torch.randn_like(latents) * torch.rand(half, 1, 1, 1, device=device()) * 0.3
        images[:half] = vae.decode(latents + noise).sample.float().clamp(-1, 1)
    return images, torch.from_numpy(np.stack([label for _, label in pairs]).astype(np.int64)).to(device())


def intersection_over_union(predicted: Labels, truth: Labels) -> NDArray[np.float64]:
    """IoU of every class over a whole set of images, the ground first."""
    counts = np.bincount(truth.reshape(-1).astype(int) * CLASSES + predicted.reshape(-1), minlength=CLASSES**2)
    table = counts.reshape(CLASSES, CLASSES)
    both = np.diag(table)
    return both / (table.sum(axis=0) + table.sum(axis=1) - both)


def measured(annotator: Annotator, count: int = 400) -> dict[str, float]:
    """IoU a class, and their mean, on unseen renders."""
    drawings = [example(ANNOTATOR_TEST, seed)[0] for seed in range(count)]
    predicted = annotator.labels(np.stack([d.image for d in drawings]))
    iou = intersection_over_union(predicted, np.stack([d.labels() for d in drawings]))
    named = dict(zip(("ground", *CLASS_NAMES), iou.round(4).tolist(), strict=True))
    return {"mIoU": round(float(iou.mean()), 4), **named}


def main(
    vae: Annotated[Path, typer.Option(help="the bundled model's autoencoder")] = Path("models/tiny/vae"),
    out: Annotated[Path, typer.Option(help="folder to write to")] = FOLDER,
    minutes: Annotated[float, typer.Option(help="budget")] = 10,
) -> None:
    """Train the annotator and write its weights and its report."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    annotator = Annotator().to(device())
    autoencoder = AutoencoderKL.from_pretrained(vae, dtype=torch.float32).to(device()).eval()
    optimizer = torch.optim.AdamW(annotator.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    progress, step, rng = Progress(minutes * 60), 0, np.random.default_rng(0)
    while not progress.done:
        image, label = batch(rng, range(progress.samples, progress.samples + BATCH), autoencoder)
        with torch.autocast(device().type, torch.bfloat16):
            scores = annotator(image)
        loss = cross_entropy(scores.float(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = progress.learning_rate(LEARNING_RATE, decay_from=0.3)
        optimizer.step()
        progress.tick(BATCH)
        step += 1
        if step % 100 == 0:
            left = (1 - progress.fraction) * minutes
            print(f"annotator samples {progress.samples} loss {loss.item():.4f}, {left:.1f} min left", flush=True)
    annotator = annotator.cpu().eval()
    out.mkdir(parents=True, exist_ok=True)
    save_file(annotator.state_dict(), out / "annotator.safetensors")
    report = {"trained on": f"{progress.samples} renders, {minutes:g} minutes", "unseen renders": measured(annotator)}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    typer.run(main)
