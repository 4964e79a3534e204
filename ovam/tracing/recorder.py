"""Hooks that see every evaluation of a UNet, and sort what it projects by call."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor, nn

from ovam.core.selection import select_positions
from ovam.errors import CaptureError, NotReplayableError
from ovam.tracing.choice import Choice
from ovam.tracing.contributions import Contributing
from ovam.tracing.families import family_of
from ovam.tracing.features import feature_blocks, output_of
from ovam.tracing.given import Given
from ovam.tracing.inputs import sample_of
from ovam.tracing.joint import joint_layers, latent_size_of
from ovam.tracing.model import (
    Pipeline,
    calling_pipeline,
    module_of,
    plain_unet,
    require_known,
    require_plain_call,
    require_uncompiled,
)
from ovam.tracing.prediction import Prediction
from ovam.tracing.recording import Call, Wanted, grid_of
from ovam.tracing.replay import Replay
from ovam.tracing.trace import Trace


@dataclass(frozen=True)
class Evaluation:
    """The call to which an evaluation that is about to start belongs."""

    schedule: Tensor
    """The timesteps of its call: another tensor, another call."""
    expected: int
    """How many evaluations its call makes."""
    rows: slice
    """Which rows of the UNet's batch are wanted, one an image."""
    halves: tuple[slice, ...]
    """The rows of all halves of guidance, the conditional one last."""
    prompts: tuple[str | None, ...] = ()
    """What the images were drawn for, where that is known and wanted."""

    @property
    def other(self) -> slice | None:
        """The rows of the half that is not wanted, if there is one."""
        return next((half for half in self.halves if half != self.rows), None)


@dataclass(frozen=True, eq=False)
class Source:
    """Whose evaluations are recorded, and where each of them belongs."""

    pipeline: Pipeline
    evaluation: Callable[[Pipeline, Mapping[str, Any], Mapping[str, Any]], Evaluation | None]
    """Called before each with the pipeline that makes it, what the UNet is called with, by name, and the variables of the
    pipeline's call; `None` for one that is left out."""
    generates: bool = True
    """Whether the pipeline's own calls are recorded; else evaluations without a pipeline, of a real image."""


@contextmanager
def recording(source: Source, choice: Choice) -> Iterator["Recorder"]:
    """Record the evaluations of a pipeline's UNet inside the `with`; no hook outlives it.

    Raises `UnsupportedModelError`, `CompiledModelError` and `SelectionError`; `CaptureError` when the UNet is replaced.
    """
    unet = plain_unet(source.pipeline)
    require_known(source.pipeline)
    require_uncompiled(source.pipeline)
    with ExitStack() as hooks:
        recorder = Recorder(source, choice, choice.wanted(unet))
        hooks.callback(recorder.close)
        recorder.begin()
        hooks.callback(unet.register_forward_pre_hook(recorder.before, with_kwargs=True).remove)
        hooks.callback(unet.register_forward_hook(recorder.after).remove)
        yield recorder
        if plain_unet(source.pipeline) is not unet:
            raise CaptureError(
                "pipeline.unet was replaced inside the capture, which saw the first one alone; capture the new one"
            )


class Recorder:
    """Sees every evaluation of the UNet and sorts what it projects by call.

    Hooks stay on the same modules as long as these are the ones in use: an adapter that is loaded
    meanwhile replaces some, and `torch.compile` must not meet new hooks at every evaluation. Threads that share the UNet
    are kept apart.
    """

    def __init__(self, source: Source, choice: Choice, wanted: list[Wanted]) -> None:
        self.source = source
        self._choice = choice
        self._wanted = wanted
        self._calls: list[Call] = []
        self._running: dict[int, Call] = {}  # by thread
        self._hooked: dict[Wanted | Contributing, tuple[nn.Module, list[Any]]] = {}
        self._contributing = choice.contributing(plain_unet(source.pipeline), wanted)
        self._lock = Lock()
        self._features: list[Any] = []

    def begin(self) -> None:
        """Put all hooks on; whatever goes wrong, `close` takes them off."""
        blocks = feature_blocks(plain_unet(self.source.pipeline)) if self._choice.features else {}
        for name, module in blocks.items():
            self._features.append(module.register_forward_hook(partial(self._keep_features, name)))
        self._follow()

    @torch.compiler.disable
    def before(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Prepare for one evaluation, the first of a call or a further one."""
        self._running.pop(get_ident(), None)
        caller, options = calling_pipeline()
        if not self._records(unet, caller):
            return
        caller = self.source.pipeline if caller is None else caller
        require_plain_call(caller, kwargs, options)
        sample = sample_of(args, kwargs)
        evaluation = self.source.evaluation(caller, {"sample": sample, **kwargs}, options)
        if evaluation is None:
            return
        images = len(range(*evaluation.rows.indices(sample.shape[0])))
        with self._lock:
            call = self._call(caller, evaluation, images, latent_size_of(sample, kwargs))
            self._follow()
        call.rows = None
        if call.started in call.evaluations:
            call.timesteps.append(args[1] if len(args) > 1 else kwargs["timestep"])
            call.rows = evaluation.rows
            if call.given is not None:
                try:
                    call.given.keep(unet, args, kwargs, evaluation.rows, None if call.joint else evaluation.other)
                except NotReplayableError as error:
                    if call.joint:  # there is nothing else to keep
                        raise CaptureError(str(error).removesuffix("; keep the queries")) from error
                    raise
        call.halves = evaluation.halves if call.started in call.feature_evaluations else ()
        if call.halves:
            call.require_halves()
            text = args[2] if len(args) > 2 else kwargs["encoder_hidden_states"]
            call.texts = text[call.halves[-1]].detach().clone()
        call.predicted = Prediction(sample, args[1] if len(args) > 1 else kwargs["timestep"])
        call.started += 1
        self._running[get_ident()] = call

    @torch.compiler.disable
    def after(self, _unet: nn.Module, _args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - a tuple or like one
        """Check that a finished evaluation called every projection; after the first, the grids decide what stays."""
        call = self._running.pop(get_ident(), None)
        if call is None:
            return
        call.finished += 1
        for wanted in call.kept:
            if call.seen[wanted] != call.finished:
                message = f"block {wanted.name} gave {call.seen[wanted]} {wanted.projection} in {call.finished} evaluations"
                raise CaptureError(message)
        call.predicted = replace(call.predicted, output=output[0]) if call.predicted else None
        if call.given is not None and call.rows is not None:
            call.given.witness(output[0][call.rows])
        if call.finished == 1:
            call.settle(self._choice.blocks)
        if call.finished == call.expected:
            call.bind_keys()

    def _records(self, unet: Any, caller: Pipeline | None) -> bool:  # noqa: ANN401 - a UNet
        """Whether an evaluation is recorded here: a pipeline's goes to the captures of that pipeline, if it has any."""
        others = {getattr(hook, "__self__", None) for hook in unet._forward_pre_hooks.values()}  # noqa: SLF001
        sources = [one.source for one in others if isinstance(one, Recorder)]
        if caller is None:
            return not self.source.generates or all(source.generates for source in sources)
        captured = any(source.generates and source.pipeline is caller for source in sources)
        return self.source.generates and (self.source.pipeline is caller or not captured)

    def close(self) -> None:
        """Remove all hooks; one that a compiled UNet still calls does nothing."""
        self._running.clear()
        for handle in [*self._features, *(each for _, handles in self._hooked.values() for each in handles)]:
            handle.remove()
        self._hooked.clear()

    def traces(self) -> Iterator[Trace]:
        """Return a trace per image of every call whose evaluations are complete."""
        for call in self._calls:
            if call.complete:
                features = self._choice.features.blocks if self._choice.features else "all"
                yield from call.traces(self._choice.half, features=features)

    def replays(self) -> Iterator[Replay]:
        """Return a replay per image of every call whose evaluations are complete."""
        for call in self._calls:
            if call.complete:
                yield from call.replays(self._choice.half)

    def running(self) -> Call | None:
        """Return the call that this thread is making, or has made last."""
        return next((call for call in reversed(self._calls) if call.thread == get_ident()), None)

    def _follow(self) -> None:
        """Hook the modules that compute the wanted projections now."""
        for wanted in self._wanted:
            module, part, parts = module_of(wanted.attention, wanted.projection)
            if self._is_new(wanted, module):
                handle = module.register_forward_hook(partial(self._keep, wanted, part, parts))
                self._hooked[wanted] = module, [handle]
        for one in self._contributing:
            if self._is_new(one, one.module):
                self._hooked[one] = one.module, one.watched(self._rows, self._keep_contribution)

    def _is_new(self, wanted: Wanted | Contributing, module: nn.Module) -> bool:
        """Whether a module is not hooked for what is wanted; hooks on the module that it replaced are removed."""
        hooked, handles = self._hooked.get(wanted, (None, []))
        if hooked is not module:
            for handle in handles:
                handle.remove()
        return hooked is not module

    def _rows(self) -> slice | None:
        """Return which rows of the running evaluation's batch are kept; `None` if it is not."""
        call = self._running.get(get_ident())
        return None if call is None else call.rows

    def _keep_contribution(self, of: Contributing, rows: Tensor) -> None:
        """Keep how much heads and a layer contributed to every image."""
        self._running[get_ident()].contributions.setdefault(of.name, []).append(rows)

    @torch.compiler.disable  # once for all hooks: for each of them by itself it takes longer than some of what they keep
    def _keep(self, wanted: Wanted, part: int, parts: int, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        """Keep a copy of the wanted rows and channels; the copy frees the others."""
        call = self._running.get(get_ident())
        if call is None or wanted not in call.kept:
            return
        call.seen[wanted] += 1
        call.grids[wanted.name] = grid_of(output.shape[1], call.latent_size)
        if call.rows is not None and call.given is None:
            rows = output.detach().unflatten(-1, (parts, -1))[call.rows, :, part]
            if not wanted.all_heads:
                rows = rows.unflatten(-1, (wanted.attention.heads, -1))[:, :, list(wanted.heads)].flatten(-2)
            call.kept[wanted].append(rows.clone(memory_format=torch.contiguous_format))

    @torch.compiler.disable
    def _keep_features(self, name: str, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - tensors
        """Keep a copy of what a block gives out, half by half."""
        call = self._running.get(get_ident())
        if call is not None and call.halves:
            rows = output_of(output).detach()
            call.features.setdefault(name, []).append(torch.stack([rows[half] for half in call.halves], dim=1))

    def _call(self, caller: Pipeline, evaluation: Evaluation, images: int, latent_size: tuple[int, int]) -> Call:
        """Return the call that the evaluation about to start belongs to."""
        thread, schedule, expected = get_ident(), evaluation.schedule, evaluation.expected
        mine = [call for call in self._calls if call.thread == thread]
        if mine and mine[-1].schedule is schedule:
            return mine[-1]
        if any(call.schedule is schedule for call in self._calls):
            raise CaptureError(
                "two threads generate with one pipeline, or one scheduler, at once; "
                "allowed: a pipeline and a scheduler for each thread, which may share the UNet"
            )
        self._calls = [call for call in self._calls if call.complete or call.thread != thread]
        evaluations = select_positions(self._choice.evaluations, expected, "evaluations")
        kept: dict[Wanted, list[Tensor]] = {wanted: [] for wanted in self._wanted}
        clip_skip = getattr(caller, "clip_skip", None) if self.source.generates else None
        features = self._choice.features
        with_features = select_positions(features.evaluations, expected, "features' evaluations") if features else ()
        unet = plain_unet(caller)
        joint = family_of(unet).joint
        given = Given() if joint or self._choice.keep == "replay" else None
        call = Call(caller, thread, schedule, expected, evaluations, latent_size, images, kept, clip_skip, with_features, given)
        if joint:
            call.prompts, call.joint = evaluation.prompts, joint_layers(unet, self._choice.blocks, latent_size)
        self._calls.append(call)
        return call
