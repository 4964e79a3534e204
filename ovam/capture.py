"""Keeping the pixel queries of a generation while it runs (Eq. 1)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ovam.errors import CaptureError, InvalidArgumentError
from ovam.model import (
    Pipeline,
    Projection,
    cross_attentions,
    module_of,
    plain_unet,
    require_known,
    require_plain_call,
    require_uncompiled,
    self_attentions,
)
from ovam.recording import Call, Wanted, grid_of
from ovam.selection import Blocks, Indices, chosen_blocks, chosen_indices
from ovam.trace import Half, Trace


@contextmanager
def capture(
    pipeline: Pipeline,
    *,
    half: Half = "conditional",
    blocks: Blocks = None,
    evaluations: Indices = None,
    heads: Indices = None,
    mid_block: bool = False,
    self_attention: bool = False,
) -> Iterator[list[Trace]]:
    """Keep the queries of what ``pipeline`` generates inside the ``with``; one `Trace` per image (Eq. 1).

    The list is filled when the block exits normally, in the order of the images, call after call. Images
    are bitwise what they would be without it, and no hook outlives the block. A call that was interrupted,
    or whose exception was caught inside the block, yields no traces.

    ``blocks`` chooses by path (``"up"``, ``"down_blocks.1"``, an exact name) or resolution (64, 32, 16),
    see `ovam.selection`; ``mid_block`` adds the mid block, which the paper leaves out. ``evaluations`` keeps
    some of the UNet evaluations of each call, as an index, a slice or a list (negative: from the end), and
    ``heads`` some of every block's heads. ``half="unconditional"`` keeps the other half of the guidance
    batch. ``self_attention`` keeps the self-attentions on the UNet's largest grid too, for refinement.

    Adapters may be loaded and projections fused inside the ``with``; ``torch.compile`` belongs there too.

    Raises `UnsupportedModelError`, `CompiledModelError`, `SelectionError`, and during the generation
    `CaptureError`, or `SelectionError` for a resolution that no block has.
    """
    if half not in get_args(Half):
        raise InvalidArgumentError("half", half, "'conditional' or 'unconditional'")
    unet = plain_unet(pipeline)
    require_known(pipeline)
    require_uncompiled(pipeline)
    found = cross_attentions(unet)
    found = {name: module for name, module in found.items() if mid_block or not name.startswith("mid_block")}
    possible = chosen_blocks(blocks, dict.fromkeys(found))
    wanted = [Wanted(name, found[name], "queries", chosen_indices(heads, found[name].heads, "heads")) for name in possible]
    if self_attention:
        wanted += [
            Wanted(name, module, projection, tuple(range(module.heads)))
            for name, module in self_attentions(unet).items()
            for projection in get_args(Projection)
        ]
    traces: list[Trace] = []
    with ExitStack() as hooks:
        recorder = _Recorder(pipeline, wanted, half, blocks, evaluations)
        hooks.callback(recorder.close)
        hooks.callback(unet.register_forward_pre_hook(recorder.before, with_kwargs=True).remove)
        hooks.callback(unet.register_forward_hook(recorder.after).remove)
        yield traces
        traces.extend(recorder.traces())


class _Recorder:
    """Sees every evaluation of the UNet and sorts what it projects by call.

    Hooks stay on the same modules as long as these are the ones in use: an adapter that is loaded
    meanwhile replaces some, and `torch.compile` must not meet new hooks at every evaluation.
    """

    def __init__(self, pipeline: Pipeline, wanted: list[Wanted], half: Half, blocks: Blocks, evaluations: Indices) -> None:
        self._pipeline = pipeline
        self._wanted = wanted
        self._half = half
        self._blocks = blocks
        self._evaluations = evaluations
        self._calls: list[Call] = []
        self._running: Call | None = None
        self._hooked: dict[Wanted, tuple[nn.Module, Any]] = {}
        self._follow()

    @torch.compiler.disable
    def before(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make ready for one evaluation, the first of a call or a further one."""
        self._running = None
        require_plain_call(unet, kwargs)
        sample = args[0] if args else kwargs["sample"]
        guided = bool(self._pipeline.do_classifier_free_guidance)
        images = sample.shape[0] // 2 if guided else sample.shape[0]
        if self._half == "unconditional" and not guided:
            raise CaptureError("half='unconditional', but guidance is off: the batch has one half, the conditional one")
        call = self._call(images, (sample.shape[-2], sample.shape[-1]))
        call.rows = None
        if call.started in call.evaluations:
            call.timesteps.append(args[1] if len(args) > 1 else kwargs["timestep"])
            call.rows = slice(images, None) if guided and self._half == "conditional" else slice(images)
        call.started += 1
        self._follow()
        self._running = call

    @torch.compiler.disable
    def after(self, _unet: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        """Check that a finished evaluation called every projection; after the first, the grids decide what stays."""
        call = self._calls[-1]
        self._running = None
        call.finished += 1
        for wanted in call.kept:
            if call.seen[wanted] != call.finished:
                message = f"block {wanted.name} gave {call.seen[wanted]} {wanted.projection} in {call.finished} evaluations"
                raise CaptureError(message)
        if call.finished == 1:
            call.settle(self._blocks)

    def close(self) -> None:
        """Take all hooks away; one that a compiled UNet still calls does nothing."""
        self._running = None
        for _, handle in self._hooked.values():
            handle.remove()
        self._hooked.clear()

    def traces(self) -> Iterator[Trace]:
        """Hand out a trace per image of every call that made all its evaluations."""
        for call in self._calls:
            if call.complete:
                yield from call.traces(self._half, self._pipeline.vae_scale_factor)

    def _follow(self) -> None:
        """Hook the modules that make the wanted projections now."""
        for wanted in self._wanted:
            module, part, parts = module_of(wanted.attention, wanted.projection)
            hooked, handle = self._hooked.get(wanted, (None, None))
            if hooked is not module:
                if handle is not None:
                    handle.remove()
                self._hooked[wanted] = module, module.register_forward_hook(self._keeping(wanted, part, parts))

    def _keeping(self, wanted: Wanted, part: int, parts: int) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        """Make a hook that keeps a copy of the wanted rows and channels; the copy frees the others."""

        @torch.compiler.disable
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
            call = self._running
            if call is None or wanted not in call.kept:
                return
            call.seen[wanted] += 1
            call.grids[wanted.name] = grid_of(output.shape[1], call.latent_size)
            if call.rows is not None:
                rows = output.detach().unflatten(-1, (parts, -1))[call.rows, :, part]
                if not wanted.all_heads:
                    rows = rows.unflatten(-1, (wanted.attention.heads, -1))[:, :, list(wanted.heads)].flatten(-2)
                call.kept[wanted].append(rows.clone(memory_format=torch.contiguous_format))

        return hook

    def _call(self, images: int, latent_size: tuple[int, int]) -> Call:
        """Return the call that the evaluation about to start belongs to."""
        schedule = self._pipeline.scheduler.timesteps
        if not self._calls or self._calls[-1].schedule is not schedule:
            self._calls = [call for call in self._calls if call.complete]
            expected = min(len(schedule), self._pipeline.num_timesteps)
            evaluations = chosen_indices(self._evaluations, expected, "evaluations")
            kept: dict[Wanted, list[Tensor]] = {wanted: [] for wanted in self._wanted}
            self._calls.append(Call(schedule, expected, evaluations, latent_size, images, kept))
        return self._calls[-1]
