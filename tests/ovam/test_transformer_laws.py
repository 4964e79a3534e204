"""The laws of a trace hold for every diffusion transformer, whatever its scheduler, guidance, size and batch."""

from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import pytest
import torch

import ovam
from ovam.tracing.capture import capture_live
from ovam.tracing.recorder import Choice
from tests.diffusion_transformers import KINDS, draw, tiny_transformer
from tests.ovam.joint_reference import Watched, concept_maps, cross_maps, joint_maps, text_maps, watch

# diffusers' multistep solvers meet a newer NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

BLOCKS = ["transformer_blocks"]
PROMPTS = ["a cat and a dog", "a tree"]
REFERENCES = {"joint": joint_maps, "text": text_maps, "concept": concept_maps}


@dataclass(frozen=True, eq=False)
class Course:
    """How a family's images are drawn."""

    name: str
    scheduler: str | None = None
    """Of the tests' own; its pipeline's without it."""
    call: dict[str, Any] = field(default_factory=dict)
    """What it is called with beside its family's usual arguments."""
    halves: Literal["none", "together", "apart"] = "none"
    """Of guidance: none, both in a batch, or one evaluated after the other."""
    size: tuple[int, int] = (64, 96)
    each: int = 1
    """Images of a prompt."""

    def __str__(self) -> str:
        return "-".join([self.name, self.scheduler or "own", self.halves, *map(str, self.size), str(self.each)])

    def rows(self, seen: Watched, image: int) -> dict[int, int]:
        """Which evaluations of the generation, and which rows of their batches, are an image's conditional half."""
        evaluations = range(0, len(seen.texts), 2 if self.halves == "apart" else 1)
        return dict.fromkeys(evaluations, image + (len(PROMPTS) * self.each if self.halves == "together" else 0))


OFF, TRUE = {"guidance_scale": 1.0}, {"true_cfg_scale": 4.0, "negative_prompt": "a dog"}
TALL: dict[str, Any] = {"size": (96, 64)}
COURSES = [
    Course("sd3", halves="together"),
    Course("sd3", "heun", OFF, **TALL),
    Course("sd3", "dpm++", halves="together", each=2),
    Course("sd3.5", halves="together"),
    Course("sd3.5", "lcm", OFF, each=2),
    Course("flux"),
    Course("flux", "dpm++", TRUE, halves="apart", **TALL),  # beside the guidance that is distilled
    Course("flux", "lcm", each=2),
    Course("flux-cfg", halves="apart"),
    Course("flux-cfg", "unipc", {"true_cfg_scale": 1.0}, **TALL),
    Course("flux2"),
    Course("flux2", "dpm++", **TALL),
    Course("flux2", "lcm", each=2),
    Course("flux2-klein", halves="apart"),
    Course("flux2-klein", "unipc", OFF, **TALL),
    Course("pixart", halves="together"),
    Course("pixart", "heun", OFF, **TALL),
    Course("pixart", "unipc", halves="together", each=2),
    Course("sana", halves="together"),
    Course("sana", "dpm++", OFF, **TALL),
    Course("sana", "heun", halves="together", each=2),
]
every_course = pytest.mark.parametrize("course", COURSES, ids=str, scope="module")  # one course after the other


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images that were drawn twice: as they are; and watched, captured, and asked about after every step."""

    pipeline: Any
    seen: Watched
    traces: list[ovam.Trace]
    replays: list[ovam.Replay]
    plain: torch.Tensor
    """Latents."""
    watched: torch.Tensor
    during: list[tuple[int, torch.Tensor]]
    """After how many evaluations of the last image, and its heatmaps."""


@cache
def text(width: int) -> torch.Tensor:
    return torch.randn(5, width, generator=torch.Generator().manual_seed(0))


@cache
def untouched(name: str) -> Any:
    return tiny_transformer(name)


@cache
def drawn(course: Course) -> Drawn:
    pipeline = copy(untouched(course.name))
    if course.scheduler:
        pipeline.scheduler = KINDS[course.name].schedulers[course.scheduler]()
    during: list[tuple[int, torch.Tensor]] = []

    def drawn_so(**options: Any) -> torch.Tensor:
        torch.manual_seed(0)  # some schedulers draw noise from no generator
        settings = course.call | {"num_images_per_prompt": course.each} | options
        return draw(pipeline, course.name, PROMPTS, size=course.size, **settings)

    with watch(pipeline) as seen, capture_live(pipeline, Choice(blocks=BLOCKS)) as live:

        def ask(*_: Any) -> dict[str, Any]:
            seen.awake = False
            trace = live.so_far()[-1]
            during.append((len(trace.evaluations), ovam.heatmaps(trace, text(trace.width), reduction="sum")))
            seen.awake = True
            return {}

        asking = {"callback": ask, "callback_steps": 1} if course.name == "pixart" else {"callback_on_step_end": ask}
        with ovam.capture(pipeline, blocks=BLOCKS) as traces, ovam.capture_replay(pipeline) as replays:
            watched = drawn_so(**asking)
    return Drawn(pipeline, seen, traces, replays, drawn_so(), watched, during)


@every_course
def test_an_image_is_bitwise_the_same_however_it_is_watched_and_no_hook_stays(course: Course) -> None:
    found = drawn(course)
    assert torch.equal(found.watched, found.plain)
    assert len(found.traces) == len(found.replays) == len(PROMPTS) * course.each
    modules = [*found.pipeline.transformer.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@every_course
def test_maps_of_the_prompts_words_are_the_attention_of_the_generation(course: Course) -> None:
    found = drawn(course)
    trace, rows = found.traces[-1], course.rows(found.seen, len(found.traces) - 1)
    assert len(rows) == len(trace.evaluations)
    assert trace.image_size == course.size
    for block in [*found.seen.called][:: max(1, len(found.seen.called) - 1)]:
        for attention in REFERENCES if trace.joint else ("cross",):
            if attention == "concept" and block.startswith("single"):
                continue
            if trace.joint is None:
                embedding, tokens = ovam.encode(found.pipeline, PROMPTS[-1], padding="max_length")
                exact = cross_maps(found.pipeline, found.seen, rows, block)
                if tokens[0].text == "</s>":  # the words come after the instruction of the model
                    exact = exact.roll(1 - len(tokens), dims=0)
            else:
                embedding = trace.joint.embedding
                exact = REFERENCES[attention](found.pipeline, found.seen, rows, block)
            maps = ovam.heatmaps(trace, embedding, reduction="sum", blocks=block, attention=attention).flatten(1)
            assert float(((maps.double() - exact).abs() / exact).max()) < 1e-4, (block, attention)


@every_course
def test_a_question_afterwards_is_the_question_during_the_generation(course: Course) -> None:
    found = drawn(course)
    trace = found.traces[-1]
    count = len(trace.evaluations)
    assert found.during[-1][0] == count
    for number, maps in found.during:
        after = ovam.heatmaps(trace, text(trace.width), reduction="sum", evaluations=slice(number))
        assert torch.equal(maps, after), number  # at the same shape of the batch
    parts = [ovam.heatmaps(trace, text(trace.width), reduction="sum", evaluations=number) for number in range(count)]
    assert torch.allclose(sum(parts), found.during[-1][1], rtol=1e-5)


@every_course
def test_what_is_stored_answers_as_the_trace_in_memory(course: Course) -> None:
    found = drawn(course)
    trace = found.traces[-1]
    exact = ovam.heatmaps(trace, text(trace.width))
    replayed = ovam.Replay.from_bytes(found.replays[-1].to_bytes()).trace(found.pipeline)
    read = ovam.Trace.from_bytes(trace.to_bytes(), found.pipeline)
    assert torch.equal(ovam.heatmaps(read, text(trace.width)), exact)
    assert torch.allclose(ovam.heatmaps(replayed, text(trace.width)), exact, rtol=1e-5, atol=1e-6)
    assert replayed.timesteps == read.timesteps == trace.timesteps
