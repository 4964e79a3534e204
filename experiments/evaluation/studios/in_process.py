"""The studio that is the library, in this process."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

import ovam
from experiments.evaluation.asking import PADDED, VOCABULARY, WORDINGS, Asked
from experiments.evaluation.datasets import Case, render
from experiments.evaluation.images import Made, Picture, Seconds, annotation, clock, drawn
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Settings
from experiments.evaluation.studios.heats import Target, TraceHeats
from experiments.evaluation.studios.models import loaded
from experiments.evaluation.studios.studio import Examples, Fit, Learned, Words
from ovam.model import Pipeline
from ovam.trace import Half


@dataclass(frozen=True, eq=False)
class LocalStudio:
    """A model, and the words of all classes."""

    pipeline: Pipeline
    words: Words
    targets: dict[object, Target] = field(default_factory=dict)
    """Of texts that were encoded before."""

    def now(self) -> float:
        """CPU time: others may share the machine."""
        return time.process_time()

    def make(self, cases: Sequence[Case], *, both_halves: bool = False) -> list[Made]:
        """Make the images of cases, in one batch those of one number of steps and guidance scale that come in a row."""
        found: list[Made] = []
        for (source, *_), several in groupby(cases, lambda case: (case.source, case.steps, case.guidance_scale)):
            alike = list(several)
            found += self._looked_at(alike) if source == "render" else self._generated(alike, both_halves=both_halves)
        return found

    def learn(self, recipe: Recipe, words: Words, examples: Examples) -> Fit:
        """Learn the tokens of classes, in single precision."""
        fit = ovam.optimize_tokens(
            [(made.traces[recipe.half].to(dtype=torch.float32), mask) for made, mask in examples],
            ovam.initial_tokens(self.pipeline, *words.values()).float(),
            optimizer=recipe.optimizer,
            learning_rate=recipe.learning_rate,
            schedule=recipe.schedule,
            epochs=recipe.epochs,
            blocks=recipe.blocks,
        )
        return {
            "rows": fit.embedding.tolist(),
            "loss": [fit.losses[0], fit.best_loss],
            "best epoch": fit.best_epoch,
            "ended": fit.ended,
        }

    def look(self, made: Made, learned: Learned, *, masks: Settings, heats: Settings) -> TraceHeats:
        """Attend to everything that is asked for."""
        return TraceHeats.of(made, lambda asked: self._target(asked, made.case, learned), [*masks, *heats])

    def _target(self, asked: Asked, case: Case, learned: Learned) -> Target:
        """What to attend to, and which of its maps count."""
        if asked in WORDINGS:
            return self._worded(*WORDINGS[asked](case), padded=asked == PADDED)
        if asked == VOCABULARY:
            return Target(self._vocabulary(), (1 + list(self.words).index(case.kind),))
        fit = learned[asked, case.kind]
        return Target(torch.tensor(fit["rows"]), (1 + fit["kinds"].index(case.kind),))

    def _worded(self, prompt: str, word: str, *, padded: bool) -> Target:
        """The tokens of a word of a prompt."""
        name = (prompt, word, padded)
        if name not in self.targets:
            embedding, tokens = ovam.encode(self.pipeline, prompt, padding="max_length" if padded else "none")
            self.targets[name] = Target(embedding, tuple(token.index for token in ovam.word_tokens(tokens, prompt, word)))
        return self.targets[name]

    def _vocabulary(self) -> torch.Tensor:
        """The words of all classes in one softmax, behind the background's row."""
        if VOCABULARY not in self.targets:
            self.targets[VOCABULARY] = Target(ovam.initial_tokens(self.pipeline, *self.words.values()), ())
        return self.targets[VOCABULARY].embedding

    def _generated(self, cases: Sequence[Case], *, both_halves: bool) -> list[Made]:
        """Generate in one batch, and see what is true."""
        seconds: Seconds = {}
        with clock(seconds, "generation", self.now):
            images, traces = self._batch(cases, both_halves=both_halves)
        with clock(seconds, "annotation", self.now):
            annotated = [annotation(case, image) for case, image in zip(cases, images, strict=True)]
        share = {stage: spent / len(cases) for stage, spent in seconds.items()}
        return [
            Made(case, images[index], *annotated[index], share, {half: several[index] for half, several in traces.items()})
            for index, case in enumerate(cases)
        ]

    def _batch(self, cases: Sequence[Case], *, both_halves: bool) -> tuple[Sequence[Picture], dict[Half, list[ovam.Trace]]]:
        """Images (n, height, width, 3) and the traces of the halves."""
        options = {"guidance_scale": cases[0].guidance_scale, "num_inference_steps": cases[0].steps, "output_type": "np"}
        generators = [torch.Generator().manual_seed(case.seed) for case in cases]
        prompts = [case.prompt for case in cases]
        traces: dict[Half, list[ovam.Trace]] = {}
        with ovam.capture(self.pipeline, self_attention=True) as traces["conditional"]:
            if both_halves:
                with ovam.capture(self.pipeline, half="unconditional") as traces["unconditional"]:
                    answer = self.pipeline(prompts, generator=generators, **options)
            else:
                answer = self.pipeline(prompts, generator=generators, **options)
        return (answer.images * 255).round().astype(np.uint8), traces

    def _looked_at(self, cases: Sequence[Case]) -> Iterator[Made]:
        """Let the UNet look at renders, once at each."""
        for seed, several in groupby(cases, lambda case: case.seed):
            seconds: Seconds = {}
            drawing = render(seed)
            with clock(seconds, "generation", self.now):
                trace = ovam.trace_image(self.pipeline, drawing.image, self_attention=True)
            for case in several:
                yield Made(case, drawing.image, *drawn(case, drawing), seconds, {"conditional": trace})
                seconds = {}


@cache
def studio(model: Path, words: tuple[tuple[str, str], ...]) -> LocalStudio:
    """The studio of this process, loaded once, single-threaded: several processes share a machine better than threads do."""
    torch.set_num_threads(1)
    return LocalStudio(loaded(model), dict(words))
