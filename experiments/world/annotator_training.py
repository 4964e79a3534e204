"""Train an annotator: `python -m experiments.world.annotator_training --kind unet --steps 4000`.

Generated things are blurrier and more crooked than renders: training images are bent, blurred, noised and recoloured, and a
quarter passes through the autoencoder where one is given. Resumes exactly from its checkpoint.
"""

import itertools
import json
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from experiments.world import atlas
from experiments.world.annotator import FIRST, MODELS, NETS, Annotator, Images, Labels, overlaps
from experiments.world.commands import run
from experiments.world.model.autoencoder import pixels
from experiments.world.model.muon import Muon, is_matrix
from experiments.world.model.parallel import device
from experiments.world.render import ANNOTATOR_TEST, ANNOTATOR_TRAINING, example
from experiments.world.scene import HELD_OUT, SIZE, START, WORLD, Recipe, classes_of

GPU = torch.cuda.is_available()
MATRIX_RATE = 0.015  # Muon's, for kernels; AdamW's for the rest:
RATE = 5e-3
CROWDED = (0.25, 0.25, 0.25, 0.25)  # shares of 1 to 4 things: more to learn a picture than people would draw
CHECKPOINT_STEPS = 100

Picture = NDArray[np.uint8]  # (height, width) or (height, width, 3)
Generator = np.random.Generator


def bent(rng: Generator, image: Picture, label: Picture) -> tuple[Picture, Picture]:
    """Image and labels pushed about by the same smooth random field."""
    size = len(image)
    field_ = rng.normal(0, rng.uniform(0, 4), (5, 5, 2)).astype(np.float32)
    shift = cv2.resize(field_, (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    where = (x + shift[..., 0], y + shift[..., 1])
    moved = cv2.remap(image, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    labels = cv2.remap(label, *where, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return moved.astype(np.uint8), labels.astype(np.uint8)


def worn(rng: Generator, image: Picture) -> Picture:
    """The image with other colours, blurred and noisy."""
    out = image.astype(np.float32)
    if rng.random() < 0.3:
        out = out * rng.uniform(0.8, 1.15, 3).astype(np.float32) + rng.uniform(-15, 15, 3).astype(np.float32)
    if rng.random() < 0.5:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.4, 1.6)))
    if rng.random() < 0.3:
        out = out + rng.normal(0, rng.uniform(2, 8), image.shape).astype(np.float32)
    return np.clip(out, 0, 255).astype(np.uint8)


def learned_from(seed: int, recipe: Recipe) -> tuple[Picture, Picture]:
    """Training example number `seed`: a picture and its labels."""
    drawing, _ = example(ANNOTATOR_TRAINING, seed, recipe)
    rng = np.random.default_rng((ANNOTATOR_TRAINING, seed, 1))
    image, label = drawing.image, drawing.labels()
    if rng.random() < 0.4:
        image, label = bent(rng, image, label)
    return worn(rng, image), label


@torch.no_grad()
def through(autoencoder: AutoencoderKL, image: Tensor, noise: float = 0.0) -> Tensor:
    """Images (n, 3, h, w) as the autoencoder gives them back, with a little noise on the latents."""
    latents = autoencoder.encode(image).latent_dist.mean
    scale = noise / autoencoder.config.scaling_factor * torch.rand(len(image), 1, 1, 1, device=image.device)
    return autoencoder.decode(latents + scale * torch.randn_like(latents)).sample.clamp(-1, 1)


@dataclass(frozen=True)
class Course(Dataset[tuple[Images, Labels]]):
    """What an annotator learns from: item k is the pictures and labels of step k."""

    seed: int  # annotators of other seeds see other scenes
    start: float  # share of scenes of the START recipe; the others are of the WORLD
    batch: int = 16
    small: int = 0  # so many steps at first have pictures of half the side, four times as many a second
    recipes: tuple[Recipe, Recipe] = field(default=(replace(START, shares=CROWDED), replace(WORLD, shares=CROWDED)))

    def __getitem__(self, index: int) -> tuple[Images, Labels]:
        """Pictures (batch, side, side, 3) and labels (batch, side, side)."""
        seeds = [10_000_000 * self.seed + index * self.batch + k for k in range(self.batch)]
        split = round(self.start * self.batch)
        pairs = [learned_from(seed, self.recipes[k >= split]) for k, seed in enumerate(seeds)]
        if index < self.small:
            half = (SIZE // 2, SIZE // 2)
            pairs = [(cv2.resize(i, half, interpolation=cv2.INTER_AREA).astype(np.uint8), t[1::2, 1::2]) for i, t in pairs]
        return np.stack([image for image, _ in pairs]), np.stack([label for _, label in pairs])


def shown(images: Images, autoencoder: AutoencoderKL | None) -> Tensor:
    """Pictures as the net sees them; one in four of full size passes through the autoencoder."""
    out = pixels(images)
    if autoencoder is not None and out.shape[-1] == SIZE:
        out[::4] = through(autoencoder, out[::4], noise=0.25)
    return out


class Training:
    """A training under way, from its checkpoint on if there is one."""

    def __init__(
        self, kind: str, course: Course, checkpoint: Path, steps: int, autoencoder: AutoencoderKL | None = None, painters: int = 0
    ) -> None:
        torch.manual_seed(course.seed)
        self.course, self.checkpoint, self.steps, self.step = course, checkpoint, steps, 0
        self.autoencoder, self.painters = autoencoder, painters
        self.net = NETS[kind](len(atlas.load().classes) + 1).to(device())
        matrices = [parameter for parameter in self.net.parameters() if is_matrix(parameter)]
        others = [parameter for parameter in self.net.parameters() if not is_matrix(parameter)]
        self.optimizers = (Muon(matrices, lr=MATRIX_RATE), torch.optim.AdamW(others, lr=RATE))
        if checkpoint.exists():
            self.load()

    def load(self) -> None:
        """Go on from the checkpoint; an `AtlasError` if it is damaged or of another atlas."""
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            atlas.check(state["atlas"])
            self.net.load_state_dict(state["net"])
            for optimizer, held in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(held)
            self.step = state["step"]
            torch.set_rng_state(state["noise"])
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise atlas.AtlasError(f"The checkpoint {self.checkpoint} is damaged: remove it to begin again.") from error

    def save(self) -> None:
        """Write the checkpoint beside the old one, then replace it."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"net": self.net.state_dict(), "optimizers": optimizers, "step": self.step}
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        beside = self.checkpoint.with_suffix(".partial")
        torch.save({**state, "noise": torch.get_rng_state(), "atlas": atlas.load().version}, beside)
        beside.replace(self.checkpoint)

    def losses(self) -> Iterator[float]:
        """Take the steps that are left; the loss of each."""
        ahead = range(self.step, self.steps)
        for images, labels in DataLoader(
            self.course, batch_size=None, sampler=ahead, num_workers=self.painters, collate_fn=tuple
        ):
            with torch.autocast(device().type, torch.bfloat16, enabled=GPU):
                scores = self.net(shown(images, self.autoencoder))
            loss = cross_entropy(scores.float(), torch.tensor(labels, device=device()).long())
            self.net.zero_grad()
            loss.backward()
            share = min(1.0, 0.1 + self.step / 20) * max(0.01, min(1.0, (1 - self.step / self.steps) / 0.6))
            for optimizer, rate in zip(self.optimizers, (MATRIX_RATE, RATE), strict=True):
                optimizer.param_groups[0]["lr"] = rate * share
                optimizer.step()
            self.step += 1
            yield loss.item()


def told(values: NDArray[np.float64]) -> dict[str, float]:
    """IoU a class that occurs, and the mean of all of them."""
    names = ("ground", *atlas.load().classes)
    known = {name: round(float(v), 4) for name, v in zip(names, values, strict=True) if not np.isnan(v)}
    return {"mIoU": round(float(np.nanmean(values)), 4), **known}


def measured(annotators: list[Annotator], autoencoder: AutoencoderKL | None, count: int = 300) -> dict[str, Any]:
    """IoU on unseen scenes, each class in several; through the autoencoder if there is one; how far annotators agree."""
    report: dict[str, Any] = {}
    for recipe in (START, WORLD, HELD_OUT):
        names = itertools.cycle(classes_of(recipe))
        drawings = [example(ANNOTATOR_TEST, k, recipe, (next(names),) if k % 2 else None)[0] for k in range(count)]
        images, truth = np.stack([d.image for d in drawings]), np.stack([d.labels() for d in drawings])
        if autoencoder is not None:
            images = seen(autoencoder, images)
        labels = [annotator.labels(images) for annotator in annotators]
        report[recipe.name] = told(overlaps(labels[0], truth))
        if len(labels) > 1:
            report[recipe.name] |= {"agreement of two annotators": told(overlaps(labels[0], labels[1]))["mIoU"]}
    return report


def seen(autoencoder: AutoencoderKL, images: Images) -> Images:
    """Images as the autoencoder gives them back."""
    parts = [through(autoencoder, pixels(images[k : k + 16])) for k in range(0, len(images), 16)]
    return ((torch.cat(parts) + 1) * 127.5).round().permute(0, 2, 3, 1).byte().cpu().numpy()


def main(  # noqa: PLR0913, PLR0917 - every choice of the command is an option
    kind: Annotated[str, typer.Option(help=f"one of: {', '.join(NETS)}")] = FIRST,
    steps: Annotated[int, typer.Option(min=1, help="steps in all")] = 4000,
    batch: Annotated[int, typer.Option(min=4, help="scenes a step")] = 64 if GPU else 16,
    small: Annotated[float, typer.Option(min=0, max=1, help="share of the steps with pictures of half the side")] = 0
    if GPU
    else 0.85,
    painters: Annotated[int, typer.Option(min=0, help="processes that draw scenes; 0: this one")] = 6 if GPU else 0,
    vae: Annotated[Path | None, typer.Option(help="an autoencoder's folder")] = None,
    start: Annotated[float, typer.Option(help="share of scenes of the START recipe")] = 0.5,
    work: Annotated[Path, typer.Option(help="folder of checkpoints")] = Path("runs/annotator"),
    out: Annotated[Path, typer.Option(help="folder to write to")] = MODELS,
    *,
    measure: Annotated[bool, typer.Option("--measure", help="train none, write the report again")] = False,
) -> None:
    """Train an annotator, or go on, and write its weights and its report."""
    torch.set_num_threads(1)
    autoencoder = None if vae is None else AutoencoderKL.from_pretrained(vae, dtype=torch.float32).eval().to(device())
    if measure:
        report(kind, out, autoencoder, json.loads((out / f"{kind}.json").read_text())["trained on"])
        return
    course = Course(list(NETS).index(kind) + 1, start, batch, round(small * steps))
    training = Training(kind, course, work / f"{kind}.pt", steps, autoencoder, painters)
    for loss in training.losses():
        if training.step % 50 == 0:
            minutes = time.process_time() / 60
            print(f"{kind} step {training.step} of {steps}: loss {loss:.4f}, {minutes:.1f} min of processor time", flush=True)
        if training.step % CHECKPOINT_STEPS == 0 or training.step == steps:
            training.save()
    Annotator(training.net).save(out / f"{kind}.safetensors", kind)
    report(kind, out, autoencoder, f"{steps * batch} renders")


def report(kind: str, out: Path, autoencoder: AutoencoderKL | None, trained_on: str) -> None:
    """Measure an annotator and write its report."""
    others = [name for name in NETS if name != kind and (out / f"{name}.safetensors").exists()]
    found = measured([Annotator.load(name, out) for name in (kind, *others)], autoencoder)
    found |= {"trained on": trained_on, "through the autoencoder": autoencoder is not None}
    (out / f"{kind}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value["mIoU"] for name, value in found.items() if isinstance(value, dict)}))


if __name__ == "__main__":
    run(main)
