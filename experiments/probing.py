"""In what order do words name what is at a place? `python -m experiments.probing` measures it on the bundled model.

Truth is the annotator's: the class at random pixels of the things in generated images. The ten classes of Table 2 are ranked, as
many as a prompt has room for. Seeds for tuning.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import ovam
from experiments.bundled import MODEL, Bundle, bundle, photograph, words_of
from experiments.evaluation.paper import CLASSES
from experiments.evaluation.world import article
from experiments.world.commands import run
from ovam.attention.probe import RankedWord, ranked
from ovam.attention.scores import resize

FIRST_SEED = 20_000
PLACES = 12  # pixels of a thing
ENOUGH = 0.025  # fraction of the image that the annotator must see of it
PAIRS = 15  # images of two things
TEMPLATES: dict[str, Callable[[list[str]], str]] = {
    "cat dog ...": " ".join,
    "cat and dog and ...": " and ".join,
    "a photograph of a cat, a dog, ...": lambda words: f"a photograph of {', '.join(map(article, words))}",
}
ORDERS: dict[str, Callable[[RankedWord], float]] = {
    "attention": lambda word: word.attention,
    "lift": lambda word: word.lift,
    "gain": lambda word: word.gain,
}
Hits = defaultdict[tuple[str, str, str], list[bool]]
"""Whether the first word was right, by (question, prompt, order)."""


def scenes(ours: Bundle, seeds: int) -> Iterator[tuple[list[str], NDArray[np.uint8], ovam.Trace]]:
    """Images of one class and of two, with their traces."""
    words = words_of(ours.world, CLASSES)
    pairs = list(combinations(words, 2))
    wanted = [[name] for name in words for _ in range(seeds)] + [[*pair] for pair in pairs[:: -(-len(pairs) // PAIRS)]]
    for number, names in enumerate(wanted):
        prompt = photograph(words[names[0]]) + "".join(f" and {article(words[name])}" for name in names[1:])
        yield names, *ours.generate(prompt, FIRST_SEED + number)


def places(thing: NDArray[np.bool_], random: np.random.Generator) -> list[tuple[int, int]]:
    """Some (x, y) of a thing, if there is enough of it."""
    found = np.argwhere(thing)
    chosen = random.choice(found, PLACES, replace=False) if thing.mean() >= ENOUGH else []
    return [(int(x), int(y)) for y, x in chosen]


def questions_of(names: list[str], words: Mapping[str, str]) -> dict[str, list[str]]:
    """The lists of classes that are ranked in an image: all of them, and where there are two, these."""
    things = "one thing" if len(names) == 1 else "two things"
    every = {f"{things}, all {len(words)} words": list(words)}
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
    model: Annotated[Path, typer.Option(help="the pipeline")] = MODEL,
    seeds: Annotated[int, typer.Option(min=1, help="images a class")] = 3,
) -> None:
    """Print how often the first word names the thing at a pixel."""
    ours, random, hits = bundle(model), np.random.default_rng(0), Hits(list)
    words = words_of(ours.world, CLASSES)
    for names, image, trace in scenes(ours, seeds):
        truths = [(place, name) for name in names for place in places(ours.truth(image, name), random)]
        for question, classes in questions_of(names, words).items():
            for template, joined in TEMPLATES.items():
                several = [words[name] for name in classes]
                maps = word_maps(ours.pipeline, trace, joined(several), several)
                for (x, y), name in truths:
                    found = ranked(several, maps, (x, y, 1, 1))
                    for order, key in ORDERS.items():
                        hits[question, template, order].append(max(found, key=key).word == words[name])
    print(table(hits))


if __name__ == "__main__":
    run(main)
