"""What a pipeline draws: `python -m experiments.world.found MODEL --out runs/found` measures hit rates and draws sheets.

A hit: the annotator finds the prompted class on more than 3 % of an image.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from experiments.world import atlas
from experiments.world.annotator import FIRST, MODELS, NETS, Annotator, Images
from experiments.world.captions import article
from experiments.world.commands import run
from experiments.world.leakage import plain_word

FIRST_SEED = 500_000  # reporting seeds; tuning uses seeds below 100_000
HIT = 0.03  # share of the image


@dataclass(frozen=True)
class Sampler:
    """The pipeline with the settings that images are made with."""

    pipeline: StableDiffusionPipeline
    guidance: float
    steps: int

    def images(self, prompt: str, seeds: Sequence[int]) -> Images:
        """One image (height, width, 3) a seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        options = {"guidance_scale": self.guidance, "num_inference_steps": self.steps, "output_type": "np"}
        answer = self.pipeline([prompt] * len(seeds), generator=generators, **options)
        return (answer.images * 255).round().astype(np.uint8)


def voc() -> tuple[str, ...]:
    """Pascal VOC's classes."""
    return tuple(name for name, kind in atlas.load().kinds.items() if kind.voc)


def hits(annotator: Annotator, images: Images, name: str) -> NDArray[np.bool_]:
    """In which images the annotator finds a class."""
    return (annotator.labels(images) == atlas.load().label(name)).mean(axis=(1, 2)) > HIT


def sheet(rows: dict[str, Images], path: Path) -> None:
    """A labelled row of images each."""
    picture = Image.fromarray(np.vstack([np.hstack(list(images)) for images in rows.values()]))
    canvas = Image.new("RGB", (picture.width + 130, picture.height), "white")
    canvas.paste(picture, (130, 0))
    draw = ImageDraw.Draw(canvas)
    height = picture.height // len(rows)
    for index, name in enumerate(rows):
        draw.text((6, index * height + height // 2 - 6), name, fill="black", font_size=14)
    canvas.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def singles(sampler: Sampler, annotators: list[Annotator], out: Path, seeds: range) -> dict[str, float]:
    """The hit rate of every class by all annotators together (each hit is found by all), drawing sheet.png."""
    rates, rows = {}, {}
    for name in voc():
        images = sampler.images(f"a photograph of {article(plain_word(name))}", seeds)
        agreed = np.all([hits(annotator, images, name) for annotator in annotators], axis=0)
        rates[name] = round(float(agreed.mean()), 4)
        rows[plain_word(name)] = images[:8]
        print(f"{name:12s} {rates[name]:.2f}", flush=True)
    sheet(rows, out / "sheet.png")
    return rates


def pairs(sampler: Sampler, annotators: list[Annotator], out: Path, seeds: range, count: int) -> float:
    """How often both of two prompted classes are found, over `count` pairs drawn from all, drawing pairs.png."""
    every = list(itertools.combinations(voc(), 2))
    chosen = [every[int(k)] for k in np.random.default_rng(FIRST_SEED).permutation(len(every))[:count]]
    both, rows = [], {}
    for number, (one, other) in enumerate(chosen):
        words = [article(plain_word(name)) for name in (one, other)]
        first = seeds.stop + len(seeds) * number
        images = sampler.images(f"a photograph of {words[0]} and {words[1]}", range(first, first + len(seeds)))
        both += np.all([hits(a, images, name) for a in annotators for name in (one, other)], axis=0).tolist()
        if number < 12:
            rows[f"{one}, {other}"[:20]] = images
    sheet(rows, out / "pairs.png")
    return round(float(np.mean(both)), 4)


def main(
    model: Annotated[Path, typer.Argument(help="a pipeline's folder")],
    out: Annotated[Path, typer.Option(help="folder for sheet.png, pairs.png and report.json")] = Path("runs/found"),
    annotators: Annotated[Path, typer.Option(help="the annotators' folder; a hit is found by all that are there")] = MODELS,
    seeds: Annotated[int, typer.Option(min=1, help="images a class")] = 20,
    pair_seeds: Annotated[int, typer.Option(min=1, help="images a pair of classes")] = 4,
    pair_count: Annotated[int, typer.Option(min=1, help="pairs of classes")] = 40,
    guidance: Annotated[float, typer.Option(help="guidance scale")] = 3.0,
    steps: Annotated[int, typer.Option(help="UNet evaluations")] = 30,
) -> None:
    """Measure Pascal VOC's classes and pairs of them."""
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    kinds = [FIRST, *(kind for kind in NETS if kind != FIRST and (annotators / f"{kind}.safetensors").exists())]
    judges = [Annotator.load(kind, annotators) for kind in kinds]
    sampler = Sampler(pipeline, guidance, steps)
    out.mkdir(parents=True, exist_ok=True)
    rates = singles(sampler, judges, out, range(FIRST_SEED, FIRST_SEED + seeds))
    both = pairs(sampler, judges, out, range(FIRST_SEED + 10_000, FIRST_SEED + 10_000 + pair_seeds), pair_count)
    result: dict[str, Any] = {"found": round(float(np.mean(list(rates.values()))), 4), "worst class": min(rates.values())}
    result |= {"both found": both, "images a class": seeds, "images of pairs": pair_seeds * pair_count, "by class": rates}
    result |= {"guidance scale": guidance, "steps": steps, "annotators": kinds, "first seed": FIRST_SEED}
    (out / "report.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    run(main)
