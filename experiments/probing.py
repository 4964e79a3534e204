"""In what order do words name what is at a place? `python -m experiments.probing` measures it on the bundled model.

Truth is the annotator's: the class at random pixels of the things in generated images. Seeds for tuning.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import ovam
from experiments.tinyworld.annotator import Annotator
from experiments.tinyworld.shapes import CLASS_NAMES
from ovam.heatmaps import resize
from ovam.probe import ranked

FIRST_SEED = 20_000
PLACES = 12  # pixels of a thing
ENOUGH = 100  # pixels that the annotator must see of it
GUIDANCE = 3.0
STEPS = 30
TEMPLATES: dict[str, Callable[[list[str]], str]] = {
    "sun tree ...": " ".join,
    "sun and tree and ...": " and ".join,
    "a photograph of a sun, a tree, ...": lambda words: f"a photograph of {', '.join(f'a {word}' for word in words)}",
}
ORDERS: dict[str, Callable[[ovam.RankedWord], float]] = {
    "attention": lambda word: word.attention,
    "lift": lambda word: word.lift,
    "gain": lambda word: word.gain,
}
Hits = defaultdict[tuple[str, str, str], list[bool]]
"""Whether the first word was right, by (what was asked, prompt, order)."""


def scenes(pipeline: StableDiffusionPipeline, seeds: int) -> Iterator[tuple[list[str], NDArray[np.uint8], ovam.Trace]]:
    """Images of one class and of two, with their traces."""
    asked = [[name] for name in CLASS_NAMES for _ in range(seeds)] + [[*pair] for pair in [*combinations(CLASS_NAMES, 2)][::3]]
    for number, names in enumerate(asked):
        with ovam.capture(pipeline) as traces:
            answer = pipeline(
                f"a photograph of {' and '.join(f'a {name}' for name in names)}",
                generator=torch.Generator().manual_seed(FIRST_SEED + number),
                guidance_scale=GUIDANCE,
                num_inference_steps=STEPS,
                output_type="np",
            )
        yield names, (answer.images[0] * 255).round().astype(np.uint8), traces[0]


def places(labels: NDArray[np.uint8], name: str, random: np.random.Generator) -> list[tuple[int, int]]:
    """Some (x, y) of a class, if there is enough of it."""
    found = np.argwhere(labels == CLASS_NAMES.index(name) + 1)
    chosen = random.choice(found, PLACES, replace=False) if len(found) >= ENOUGH else []
    return [(int(x), int(y)) for y, x in chosen]


def asked_words(names: list[str]) -> dict[str, list[str]]:
    """What is asked of an image: all classes, and where there are two, these."""
    things = "one thing" if len(names) == 1 else "two things"
    every = {f"{things}, ten words": list(CLASS_NAMES)}
    return every if len(names) == 1 else every | {f"{things}, their words": names}


def word_maps(pipeline: StableDiffusionPipeline, trace: ovam.Trace, prompt: str, words: list[str]) -> torch.Tensor:
    """The heatmaps of words of a prompt, (words, height, width), made once for all places."""
    embedding, tokens = ovam.encode(pipeline, prompt)
    maps = resize(ovam.heatmaps(trace, embedding), trace.image_size)
    rows = [[token.index for token in ovam.word_tokens(tokens, prompt, word)] for word in words]
    return torch.stack([maps[own].mean(dim=0) for own in rows])


def table(hits: Hits) -> str:
    """How often the first word was right, as Markdown."""
    questions = list(dict.fromkeys(question for question, _, _ in hits))
    lines = [f"| prompt | order by | {' | '.join(questions)} |", "|---" * (len(questions) + 2) + "|"]
    for template in TEMPLATES:
        for order in ORDERS:
            rates = " | ".join(f"{np.mean(hits[question, template, order]):.3f}" for question in questions)
            lines.append(f"| {template} | {order} | {rates} |")
    return "\n".join(lines)


def main(
    model: Annotated[Path, typer.Option(help="the pipeline")] = Path("models/tiny"),
    seeds: Annotated[int, typer.Option(min=1, help="images a class")] = 3,
) -> None:
    """Print how often the first word names the thing at a pixel."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    annotator, random, hits = Annotator.load(), np.random.default_rng(0), Hits(list)
    for names, image, trace in scenes(pipeline, seeds):
        labels = annotator.labels(image[None])[0]
        truths = [(place, name) for name in names for place in places(labels, name, random)]
        for question, words in asked_words(names).items():
            for template, joined in TEMPLATES.items():
                maps = word_maps(pipeline, trace, joined(words), words)
                for (x, y), name in truths:
                    found = ranked(words, maps, (x, y, 1, 1))
                    for order, key in ORDERS.items():
                        hits[question, template, order].append(max(found, key=key).word == name)
    print(table(hits))


if __name__ == "__main__":
    typer.run(main)
