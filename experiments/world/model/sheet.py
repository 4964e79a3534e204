"""A sheet of what a pipeline draws, a row for each prompt: `python -m experiments.world.model.sheet FOLDER sheet.png`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from PIL import Image

from experiments.world import atlas
from experiments.world.commands import run

PAIRS = ("a cat next to a dog", "a hat on a cat", "a red car on the grass", "a blue balloon above a person")
AT_ONCE = 16


@torch.no_grad()
def draw(pipeline: StableDiffusionPipeline, prompts: list[str], seeds: list[int], *, steps: int, guidance: float) -> np.ndarray:
    """Images (count, height, width, 3) uint8 of each prompt with its seed."""
    parts = []
    for begin in range(0, len(prompts), AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        out = pipeline(
            prompts[part], num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="np"
        ).images
        parts.append((out * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def arranged(images: np.ndarray, columns: int) -> Image.Image:
    """Images (count, height, width, 3) in rows."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height, width, 3), 255, np.uint8)
    sheet[:count] = images
    lines = sheet.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(lines.reshape(rows * height, columns * width, 3))


def voc_prompts() -> list[str]:
    """A prompt for each of Pascal VOC's classes."""
    return [f"a photograph of a {kind.words[0]}" for kind in atlas.load().kinds.values() if kind.voc]


def main(
    folder: Path,
    out: Path,
    seeds: Annotated[int, typer.Option(help="images a prompt")] = 4,
    steps: int = 20,
    guidance: float = 3.0,
    columns: int = 12,
    threads: int = 1,
) -> None:
    """Draw the classes of Pascal VOC and some pairs."""
    torch.set_num_threads(threads)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    asked = [(prompt, seed) for prompt in (*voc_prompts(), *PAIRS) for seed in range(seeds)]
    images = draw(pipeline, [p for p, _ in asked], [s for _, s in asked], steps=steps, guidance=guidance)
    arranged(images, columns).save(out)


if __name__ == "__main__":
    run(main)
