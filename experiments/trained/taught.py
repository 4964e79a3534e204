"""The trained networks, taught a little more in another way.

Does a network ignore what its training never asked of it?

Grounded Diffusion has never seen a token, DatasetDM no image with more than the one thing that it was asked for. Each is taught
that for some steps, and beside it for as many steps what it knows already, since more steps alone may change it, too.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.backends.library import token_of
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.report.reasons import GROUNDED, MORE_ALONE, MORE_WORDS, PERCEIVING, PUBLISHED, SCENES_TOO, TOKENS_TOO
from experiments.evaluation.work import TokenFiles, read_learned
from experiments.trained import courses, teacher
from experiments.trained.cache import Cached, cached, inputs_of_datasetdm, inputs_of_grounded_diffusion
from experiments.trained.commands import rows_of
from experiments.trained.training import Loss, Schedule, Training
from ovam.trained.datasetdm import DatasetDM
from ovam.trained.grounded_diffusion import GroundedDiffusion
from ovam.trained.networks import Network, network_of

SPLIT, EXAMPLES = 1, 150
SCHEDULE = Schedule(steps=300, rate=1e-4)


@dataclass(frozen=True)
class Workshop:
    """Where networks are taught, and with which tokens."""

    features: Path
    """The folder of cached features; those that the networks were trained on are taken where they are there."""
    work: Path
    tokens: TokenFiles


def networks(pipeline: Any, workshop: Workshop) -> Mapping[str, Network]:  # noqa: ANN401 - a pipeline
    """All networks by name: the bundled ones, then those that were taught more."""
    bundled = {name: network_of(pipeline, name) for name in (GROUNDED, PUBLISHED, PERCEIVING)}
    return bundled | _grounded(pipeline, workshop, bundled[GROUNDED]) | _perceiving(pipeline, workshop, bundled[PERCEIVING])


def grounded_examples(pipeline: Any, workshop: Workshop) -> Cached:  # noqa: ANN401 - a pipeline
    """Some of the renders that Grounded Diffusion was trained on."""
    draw, inputs = partial(teacher.grounded, classes=teacher.seen_of(SPLIT)), inputs_of_grounded_diffusion(pipeline.unet)
    return cached(pipeline, inputs, draw, EXAMPLES, teacher.VOC, workshop.features / f"{GROUNDED}-{SPLIT}" / "features")


def scenes(pipeline: Any, workshop: Workshop) -> Cached:  # noqa: ANN401 - a pipeline
    """Renders of one thing and of two, as DatasetDM would see them; it was trained on others, of one thing."""
    draw, inputs = partial(teacher.grounded, classes=teacher.VOC), inputs_of_datasetdm(pipeline.unet)
    return cached(pipeline, inputs, draw, EXAMPLES, teacher.VOC, workshop.work / "scenes")


def _grounded(pipeline: Any, workshop: Workshop, network: Network) -> dict[str, Network]:  # noqa: ANN401 - a pipeline
    """Grounded Diffusion, taught by words, and in half of the steps by tokens of the classes that it has seen."""
    seen, examples = teacher.seen_of(SPLIT), grounded_examples(pipeline, workshop)
    words, learned = rows_of(network, pipeline), read_learned(workshop.tokens)
    fits = {name: learned.get((PUBLISHED_RECIPE, name)) for name in seen}
    tokens = words.clone()
    for number, name in enumerate(teacher.VOC):
        if fit := fits.get(name):
            tokens[number] = network.row(pipeline, token_of(fit, name))

    def taught(rows: tuple[Tensor, ...]) -> Callable[[Any], Loss]:
        return lambda module: in_turn([courses.of_grounded_diffusion(module, examples, each) for each in rows])

    return {
        MORE_WORDS: more(network, GroundedDiffusion, taught((words,)), workshop.work / "more-words.pt"),
        TOKENS_TOO: more(network, GroundedDiffusion, taught((words, tokens)), workshop.work / "tokens-too.pt"),
    }


def _perceiving(pipeline: Any, workshop: Workshop, network: Network) -> dict[str, Network]:  # noqa: ANN401 - a pipeline
    """DatasetDM, taught on scenes whose prompt names one thing, and on those where one of two is asked for."""
    found = scenes(pipeline, workshop)
    rows, several = rows_of(network, pipeline), found.classes[:, 1] >= 0

    def taught(examples: Cached) -> Callable[[Any], Loss]:
        return lambda module: courses.of_datasetdm(module, examples, rows)

    return {
        MORE_ALONE: more(network, DatasetDM, taught(some(found, ~several)), workshop.work / "more-alone.pt"),
        SCENES_TOO: more(network, DatasetDM, taught(either(some(found, several))), workshop.work / "scenes-too.pt"),
    }


def in_turn(losses: list[Loss]) -> Loss:
    """One of some losses at every step, drawn by chance."""
    return lambda rng: losses[int(rng.integers(len(losses)))](rng)


def some(examples: Cached, chosen: Tensor) -> Cached:
    """Those of some examples that are chosen."""
    return Cached([level[chosen] for level in examples.levels], examples.masks[chosen], examples.classes[chosen])


def either(examples: Cached) -> Cached:
    """Examples of two things twice: once the first is asked for, once the second."""
    masks, classes = (torch.cat([both, both.flip(1)]) for both in (examples.masks, examples.classes))
    return Cached([level.repeat(2, 1, 1, 1) for level in examples.levels], masks, classes)


def more(network: Network, kind: type, course: Callable[[Any], Loss], checkpoint: Path) -> Network:
    """A copy of a network after some more steps; those that are done are not taken again."""
    module = deepcopy(network.module).train().requires_grad_()
    if not isinstance(module, kind):
        raise TypeError(module)
    Training(module, SCHEDULE, checkpoint).run(course(module))
    return replace(network, module=module.eval().requires_grad_(requires_grad=False))
