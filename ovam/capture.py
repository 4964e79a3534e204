"""Keeping the pixel queries of a generation while it runs (Eq. 1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.errors import CaptureError, InvalidArgumentError
from ovam.model import Pipeline, cross_attentions, plain_unet, require_uncompiled
from ovam.selection import Indices, chosen_blocks, chosen_indices
from ovam.trace import Block, Half, Trace


@contextmanager
def capture(
    pipeline: Pipeline,
    *,
    half: Half = "conditional",
    blocks: str | Sequence[str] | None = None,
    evaluations: Indices = None,
    mid_block: bool = False,
) -> Iterator[list[Trace]]:
    """Keep the queries of what ``pipeline`` generates inside the ``with``; one `Trace` per image (Eq. 1).

    The list is filled when the block exits normally, in the order of the images, call after call. Images
    are bitwise what they would be without it, and no hook outlives the block. A call that was interrupted,
    or whose exception was caught inside the block, yields no traces.

    ``blocks`` takes regular expressions searched in the attention's path (``"up_blocks"``, an exact name),
    or several; ``mid_block`` adds the mid block, which the paper leaves out. ``evaluations`` keeps some of
    the UNet evaluations of each call, as an index, a slice or a list (negative: from the end).
    ``half="unconditional"`` keeps the other half of the guidance batch.

    Raises `UnsupportedModelError`, `CompiledModelError`, `SelectionError`, and during the generation
    `CaptureError`.
    """
    if half not in get_args(Half):
        raise InvalidArgumentError("half", half, "'conditional' or 'unconditional'")
    require_uncompiled(pipeline)
    unet = plain_unet(pipeline)
    found = cross_attentions(unet)
    found = {name: module for name, module in found.items() if mid_block or not name.startswith("mid_block")}
    names = chosen_blocks(blocks, dict.fromkeys(found))
    recorder = _Recorder(pipeline, {name: found[name] for name in names}, half, evaluations)
    traces: list[Trace] = []
    with ExitStack() as hooks:
        hooks.callback(recorder.unhook)
        hooks.callback(unet.register_forward_pre_hook(recorder.before, with_kwargs=True).remove)
        hooks.callback(unet.register_forward_hook(recorder.after).remove)
        yield traces
        traces.extend(recorder.traces())


@dataclass
class _Call:
    """What one call of the pipeline has left so far."""

    schedule: Tensor  # the scheduler's timesteps: every call of a pipeline sets new ones
    expected: int
    kept: tuple[int, ...]
    latent_size: tuple[int, int]
    images: int
    queries: dict[str, list[Float[Tensor, "images pixels channels"]]]
    timesteps: list[Any] = field(default_factory=list)
    started: int = 0
    finished: int = 0


class _Recorder:
    """Sees every evaluation of the UNet and sorts the queries by call.

    The hooks on ``to_q`` are placed for each evaluation anew, on whatever module is ``to_q`` by then: an
    adapter that is loaded meanwhile replaces it.
    """

    def __init__(self, pipeline: Pipeline, attentions: dict[str, Any], half: Half, evaluations: Indices) -> None:
        self._pipeline = pipeline
        self._attentions = attentions
        self._half = half
        self._evaluations = evaluations
        self._calls: list[_Call] = []
        self._hooks = ExitStack()

    def before(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make ready for one evaluation, the first of a call or a further one."""
        self._hooks.close()
        sample = args[0] if args else kwargs["sample"]
        guided = bool(self._pipeline.do_classifier_free_guidance)
        images = sample.shape[0] // 2 if guided else sample.shape[0]
        if self._half == "unconditional" and not guided:
            raise CaptureError("half='unconditional', but guidance is off: the batch has one half, the conditional one")
        call = self._call(images, (sample.shape[-2], sample.shape[-1]))
        if call.started in call.kept:
            call.timesteps.append(args[1] if len(args) > 1 else kwargs["timestep"])
            rows = slice(images, None) if guided and self._half == "conditional" else slice(images)
            for name, attention in self._attentions.items():
                hook = _keep(call.queries[name], rows)
                self._hooks.callback(attention.to_q.register_forward_hook(hook).remove)
        call.started += 1

    def after(self, _unet: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        """Check that a finished evaluation left its queries in every block."""
        self._hooks.close()
        call = self._calls[-1]
        call.finished += 1
        for name, queries in call.queries.items():
            if len(queries) != len(call.timesteps):
                raise CaptureError(f"block {name} gave {len(queries)} queries in {len(call.timesteps)} evaluations")

    def unhook(self) -> None:
        """Take the hooks of an evaluation that did not finish away."""
        self._hooks.close()

    def traces(self) -> Iterator[Trace]:
        """Hand out a trace per image of every call that made all its evaluations."""
        for call in self._calls:
            if call.finished >= call.expected:
                yield from self._split(call)

    def _call(self, images: int, latent_size: tuple[int, int]) -> _Call:
        """Return the call that the evaluation about to start belongs to."""
        schedule = self._pipeline.scheduler.timesteps
        if not self._calls or self._calls[-1].schedule is not schedule:
            expected = min(len(schedule), getattr(self._pipeline, "num_timesteps", len(schedule)))
            kept = chosen_indices(self._evaluations, expected, "evaluations")
            queries: dict[str, list[Tensor]] = {name: [] for name in self._attentions}
            self._calls.append(_Call(schedule, expected, kept, latent_size, images, queries))
        return self._calls[-1]

    def _split(self, call: _Call) -> Iterator[Trace]:
        """Cut a call's queries into a trace per image, letting go of them block by block."""
        factor = self._pipeline.vae_scale_factor
        blocks: list[list[Block]] = [[] for _ in range(call.images)]
        for name, attention in self._attentions.items():
            rows = call.queries.pop(name)
            grid = grid_of(rows[0].shape[1], call.latent_size)
            for image, own in enumerate(blocks):
                with torch.inference_mode(mode=False):  # for the queries to take part in an optimisation
                    queries = torch.stack([_by_head(row[image], attention.heads) for row in rows])
                own.append(Block(name, grid, float(attention.scale), queries, attention.to_k))
        for own in blocks:
            yield Trace(
                blocks=tuple(own),
                evaluations=call.kept,
                timesteps=tuple(float(step) for step in call.timesteps),
                latent_size=call.latent_size,
                image_size=(call.latent_size[0] * factor, call.latent_size[1] * factor),
                half=self._half,
            )


def _keep(queries: list[Tensor], rows: slice) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    """Make a hook that adds a copy of the chosen rows of an output to ``queries``; the copy frees the other rows."""

    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        queries.append(output.detach()[rows].clone())

    return hook


def _by_head(rows: Float[Tensor, "pixels channels"], heads: int) -> Float[Tensor, "heads pixels head_dim"]:
    """Split the channels of one image's queries into heads."""
    return rows.unflatten(-1, (heads, -1)).transpose(0, 1)


def grid_of(pixels: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Find the (height, width) of a block by its pixels: the latent, halved upwards as often as it takes.

    Raises `CaptureError` when no number of halvings fits.
    """
    height, width = latent_size
    while height * width > max(pixels, 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != pixels:
        raise CaptureError(f"a block has {pixels} pixels, which no halving of the latent {latent_size} gives")
    return height, width
