"""The backend that is the library, in this process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

import ovam
from experiments.evaluation.backends.backend import Examples, Fit, Learned, Words
from experiments.evaluation.backends.competing import against, word_against
from experiments.evaluation.backends.heatmaps import Key, TraceAnswers, required
from experiments.evaluation.backends.models import loaded, resolutions_of
from experiments.evaluation.datasets import Case
from experiments.evaluation.recipes import PUBLISHED_RECIPE, Recipe
from experiments.evaluation.settings import Settings
from experiments.evaluation.subjects import Picture, Seconds, Subject, Truth, annotation, clock
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, PADDED, TOKENS_AGAINST_ALL, WORDINGS, TargetName
from experiments.evaluation.world import World, world_of
from ovam import Method, Rows
from ovam.attention.targets import rows_of
from ovam.core.selection import FeatureChoice
from ovam.learning.initial import initial_tokens
from ovam.tracing.model import Pipeline
from ovam.trained.networks import network_of, networks_of


@dataclass(frozen=True, eq=False)
class LibraryBackend:
    """A pipeline, its world, and the words of all classes."""

    pipeline: Pipeline
    world: World
    words: Words
    resolutions: tuple[int, ...]
    """Of its cross-attention, the highest first."""
    encoded: dict[object, Rows] = field(default_factory=dict)
    """Of texts that were encoded before."""

    def now(self) -> float:
        """CPU time: others may share the machine."""
        return time.process_time()

    def generate(self, cases: Sequence[Case]) -> list[Subject]:
        """Generate the images of cases, in one batch those of one number of steps and guidance scale that come in a row."""
        found: list[Subject] = []
        for (group, *_), several in groupby(cases, lambda case: (case.group, case.steps, case.guidance_scale)):
            alike = list(several)
            found += [self._traced(case) for case in alike] if group == "real" else self._generated(alike)
        return found

    def learn(self, recipe: Recipe, words: Words, examples: Examples) -> Fit:
        """Learn the tokens of classes, in single precision."""
        fit = ovam.optimize_tokens(
            [(required(subject.trace).to(dtype=torch.float32), mask) for subject, mask in examples],
            initial_tokens(self.pipeline, *words.values()).float(),
            optimizer=recipe.optimizer,
            learning_rate=recipe.learning_rate,
            schedule=recipe.schedule,
            epochs=recipe.epochs,
            blocks=recipe.blocks(self.resolutions),
        )
        return {
            "rows": fit.embedding.tolist(),
            "loss": [fit.losses[0], fit.best_loss],
            "best epoch": fit.best_epoch,
            "ended": fit.ended,
        }

    def answers(self, subject: Subject, learned: Learned, *, masks: Settings, heats: Settings) -> TraceAnswers:
        """Look for everything in an image."""

        def by_network(key: Key) -> Tensor:
            target, method = key
            network = network_of(self.pipeline, method.network or "")
            wanted = WORDINGS[target](subject.case) if target in WORDINGS else self.rows(target, subject.case, learned)
            return network.heat(required(subject.trace), network.row(self.pipeline, wanted))

        return TraceAnswers.of(subject, lambda target: self.rows(target, subject.case, learned), [*masks, *heats], by_network)

    def rows(self, target: TargetName, case: Case, learned: Learned) -> Rows:
        """What a target's heat is the attention to."""
        if target in WORDINGS:
            return self._worded(target, case)
        if target in (AGAINST_ALL, AGAINST_SCENE):
            return self._competing(case.word, tuple(self.words.values()) if target == AGAINST_ALL else case.others)
        if target == TOKENS_AGAINST_ALL:
            others = [name for name in self.words if name != case.class_name and (PUBLISHED_RECIPE, name) in learned]
            tokens = [token_of(learned[PUBLISHED_RECIPE, name], name) for name in (case.class_name, *others)]
            return against(tokens[0], tokens[1:])
        return token_of(learned[target, case.class_name], case.class_name)

    def _worded(self, target: TargetName, case: Case) -> Rows:
        """The tokens of a word of a prompt."""
        words, method = WORDINGS[target](case), Method(padding="max_length" if target == PADDED else "none")
        if (words, method) not in self.encoded:
            (self.encoded[words, method],) = rows_of(self.pipeline, [words], [method])
        return self.encoded[words, method]

    def _competing(self, word: str, others: tuple[str, ...]) -> Rows:
        """A word in one softmax with others."""
        if (word, others) not in self.encoded:
            self.encoded[word, others] = word_against(self.pipeline, word, others)
        return self.encoded[word, others]

    def _generated(self, cases: Sequence[Case]) -> list[Subject]:
        """Generate in one batch, and see what is true."""
        seconds: Seconds = {}
        with clock(seconds, "generation", self.now):
            images, traces = self._batch(cases)
        with clock(seconds, "annotation", self.now):
            truths = [annotation(case, image, self.world) for case, image in zip(cases, images, strict=True)]
        fraction = {stage: spent / len(cases) for stage, spent in seconds.items()}
        return [Subject(case, images[k], truths[k], fraction, traces[k]) for k, case in enumerate(cases)]

    def _batch(self, cases: Sequence[Case]) -> tuple[Sequence[Picture], list[ovam.Trace]]:
        """Images (n, height, width, 3) and their traces."""
        options = {"guidance_scale": cases[0].guidance_scale, "num_inference_steps": cases[0].steps, "output_type": "np"}
        generators = [torch.Generator().manual_seed(case.seed) for case in cases]
        features = FeatureChoice() if networks_of(self.pipeline) else None
        with ovam.capture(self.pipeline, self_attention=True, features=features) as traces:
            answer = self.pipeline([case.prompt for case in cases], generator=generators, **options)
        return (answer.images * 255).round().astype(np.uint8), traces

    def _traced(self, case: Case) -> Subject:
        """Trace a real image, whose truth is exact."""
        seconds: Seconds = {}
        real = self.world.real_image(case.class_name, case.seed, case.things)
        with clock(seconds, "generation", self.now):
            trace = ovam.trace_image(self.pipeline, real.image, self_attention=True)
        truth = Truth(real.labels, real.labels == self.world.label(case.class_name))
        return Subject(with_others(case, real.others), real.image, truth, seconds, trace)


def token_of(fit: Fit, class_name: str) -> Rows:
    """A class's learned token with its background."""
    return Rows(torch.tensor(fit["rows"]), (1 + fit["classes"].index(class_name),))


def with_others(case: Case, others: tuple[str, ...]) -> Case:
    """A real image's case with the words of what else it shows."""
    return case if case.others == others else replace(case, others=others)


@cache
def library(model: Path, words: tuple[tuple[str, str], ...]) -> LibraryBackend:
    """The backend of this process, loaded once, single-threaded: several processes share a machine better than threads do."""
    torch.set_num_threads(1)
    return LibraryBackend(cast("Pipeline", loaded(model)), world_of(model), dict(words), resolutions_of(model))
