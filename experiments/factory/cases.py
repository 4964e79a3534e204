"""Which images the data set is made of: captions that contain a class, each image with a seed that nothing else uses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from experiments.evaluation.datasets import SEEDS_A_CLASS, Case, Seeds, WorldSet
from experiments.evaluation.world import World, mention
from experiments.world.captions import caption
from experiments.world.render import TRAINING_CAPTIONS
from experiments.world.scene import sample

SET = Seeds("data-set", SEEDS_A_CLASS, 700_000, scenes=True)
"""Beside those of the evaluation, beyond the last of them."""
MOST = 20 * SEEDS_A_CLASS
"""As many images as the paper's, a thousand of each class."""


def cases(world: World, guidance_scale: float, part: Iterable[int], classes: Sequence[str]) -> Iterator[Case]:
    """Some of the images, classes in turn: half of the captions say the class alone, half other things as well."""
    drawn = WorldSet(SET, world, guidance_scale)
    for index in part:
        number, place = divmod(index, len(classes))
        case = drawn.case(classes[place], number)
        yield alone(case, world) if number % 2 == 0 else case


def alone(case: Case, world: World) -> Case:
    """The same with the caption of a scene that has nothing else in it."""
    rng = np.random.default_rng((TRAINING_CAPTIONS, case.seed))
    recipe = replace(world.recipe, twins=0.0)
    while True:
        text = caption(rng, sample(rng, recipe, (case.class_name,)))
        if word := mention(case.class_name, text):
            return replace(case, prompt=text, mention=word, others=())
