"""Heatmaps of models whose pixels and text attend together: a concept stream beside the prompt, or the prompt's own words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ovam.attention.prompts import parts_of, tokens_drawn_for
from ovam.attention.scores import Split, halves_of
from ovam.attention.streams import concept_outputs, concept_scores
from ovam.attention.text import encode_each
from ovam.attention.tokens import Encoded
from ovam.core.methods import Attention, Padding
from ovam.core.selection import Blocks, Grid, Positions, select_positions
from ovam.errors import InvalidArgumentError
from ovam.tracing.families import family_named
from ovam.tracing.joint_trace import Joint, there
from ovam.tracing.model import Pipeline
from ovam.tracing.sides import BlockSide, Need, Side
from ovam.tracing.trace import Trace

Rows = Float[Tensor, "_ text_width"]
JointSplit = Split | Literal["halves"]
"""By what maps are kept apart; `halves` of the evaluations, of the heads and of the blocks, all at once."""


@dataclass(frozen=True, eq=False)
class JointSelected:
    """The attention maps of a trace from which a heatmap is computed."""

    joint: Joint
    attention: Attention
    blocks: tuple[str, ...]
    evaluations: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def terms(self) -> int:
        """How many attention maps they are."""
        return len(self.blocks) * len(self.evaluations) * len(self.heads)

    @property
    def grid(self) -> Grid:
        """(height, width) of the pixels, the same in all blocks."""
        return self.joint.grids[self.blocks[0]]

    @property
    def needs(self) -> dict[str, frozenset[Need]]:
        """What is computed again of each block."""
        match self.attention:
            case "concept":
                return self.joint.stream_needs(self.blocks)
            case "joint":
                need: frozenset[Need] = frozenset({"words", "mass"})
            case _:
                need = frozenset({"words"})
        return dict.fromkeys(self.blocks, need)

    def parts(self, by: JointSplit | None) -> dict[str, int]:
        """Name the parts of the selection, each with how many maps it has; without `by` one part."""
        if by not in (None, *get_args(Split), "halves"):
            raise InvalidArgumentError("by", by, "'block', 'evaluation' or 'head'")
        return dict(Counter(self.part(by, *each) for each in product(self.blocks, self.evaluations, self.heads)))

    def part(self, by: JointSplit | None, block: str, evaluation: int, head: int) -> str:
        """Name the part that a map belongs to; halves as `ovam.attention.halves.grouped` names them."""
        match by:
            case None:
                return ""
            case "halves":
                ways = ((self.evaluations, evaluation), (self.heads, head), (self.blocks, block))
                return "".join(str(int(one in halves_of(every)[1])) for every, one in ways)
            case _:
                return {"block": block, "evaluation": str(evaluation), "head": str(head)}[by]


def select_joint(
    trace: Trace, attention: Attention | None, blocks: Blocks, evaluations: Positions | slice, heads: Positions | slice
) -> JointSelected:
    """Select what a heatmap is computed from. Raises `SelectionError`, `AttentionError`.

    The heads of a concept stream are side by side in one: there are none to select.
    """
    joint = trace.joint
    if joint is None:
        raise InvalidArgumentError("trace", f"one of {trace.family}", "one of a model whose pixels and text attend together")
    kind = joint.family.attention(attention)
    count = 1 if kind == "concept" else joint.replay.layers[0].heads
    what = "heads of a concept stream, which are one" if kind == "concept" else "heads"
    return JointSelected(
        joint,
        kind,
        joint.blocks(kind, blocks),
        select_positions(evaluations, len(trace.evaluations), "evaluations"),
        select_positions(heads, count, what),
    )


def encode_for(
    trace: Trace, pipeline: Pipeline, prompts: Sequence[str], padding: Padding, attention: Attention | None
) -> list[Encoded]:
    """Encode attribution prompts for a trace: as the pipeline encodes prompts of its length, with the trace's `clip_skip`.

    For an attention that reads the prompt's own words these are the rows that the image was drawn for, and its tokens.

    Raises what `encode` raises, `AttentionError`, and `InvalidArgumentError` for another prompt than the image's.
    """
    if trace.joint is None:
        family_named(trace.family).attention(attention)
        return encode_each(pipeline, prompts, padding=padding, clip_skip=trace.clip_skip)
    own, kind = trace.joint.embedding, trace.joint.family.attention(attention)
    if kind == "concept":
        length = own.shape[0] - sum(part.length for part in parts_of(pipeline, None)[:-1])
        return encode_each(pipeline, prompts, padding=padding, clip_skip=trace.clip_skip, length=length)
    known = "unknown: its encoders were given embeddings, or different texts" if trace.prompt is None else repr(trace.prompt)
    for prompt in prompts:
        if prompt != trace.prompt:
            allowed = f"with attention={kind!r} the prompt of the image, {known}; with attention='concept' any"
            raise InvalidArgumentError("prompt", prompt, allowed)
    return [(own, tokens_drawn_for(pipeline, prompt, len(own))) for prompt in prompts]


def joint_sums(
    selected: JointSelected, texts: Sequence[Rows], by: JointSplit | None = None
) -> list[dict[str, Float[Tensor, "_ pixels"]]]:
    """Sum the attention maps of every text's rows, part by part; the pixels' side is computed once for all texts.

    Without parts differentiable with respect to the rows of a concept stream. Raises `InvalidArgumentError` for joint
    attention to other rows than the prompt's own.
    """
    if selected.attention != "concept":
        for text in texts:
            _require_own(selected, text)
    if by is None and torch.is_grad_enabled() and any(text.requires_grad for text in texts):
        return [{"": _ConceptSum.apply(text, selected)} for text in texts]
    with torch.no_grad():
        return _summed(selected, texts, by, selected.joint.sides(selected.needs, selected.evaluations))


def _summed(
    selected: JointSelected, texts: Sequence[Rows], by: JointSplit | None, sides: Iterator[tuple[int, Side]]
) -> list[dict[str, Tensor]]:
    sums: list[dict[str, Tensor]] = [{} for _ in texts]
    for evaluation, side in sides:
        for number, text in enumerate(texts):
            for block, head, maps in _maps(selected, side, text):
                part = selected.part(by, block, evaluation, head)
                known = sums[number].get(part)
                sums[number][part] = maps if known is None else known + maps
    return sums


def _maps(selected: JointSelected, side: Side, text: Rows) -> Iterator[tuple[str, int, Float[Tensor, "tokens pixels"]]]:
    """Compute a text's attention maps at one evaluation: block, head, and the map of every row."""
    if selected.attention == "concept":
        stream = concept_outputs(selected.joint.unet, side, text, selected.blocks)
        for block, outputs in stream:
            yield block, 0, concept_scores(outputs, there(side.blocks[block].output)).softmax(dim=0)
        return
    for block in selected.blocks:
        for head in selected.heads:
            yield block, head, _of_words(side.blocks[block], head)


def _of_words(known: BlockSide, head: int) -> Float[Tensor, "tokens pixels"]:
    """Return the attention of pixels to the prompt's words: among these alone, or with the mass of all pixels among all keys.

    Tokens come first, because a softmax over a short last dimension is many times slower.
    """
    queries, words = there(known.queries)[0, head], there(known.words)[0, head]
    exact = torch.promote_types(queries.dtype, torch.float32)
    scores = (words.to(exact) * words.shape[-1] ** -0.5) @ queries.to(exact).T
    if known.mass is None:
        return scores.softmax(dim=0)
    return torch.cat([scores, known.mass[0, head, None].to(exact)]).softmax(dim=0)[:-1]


def _require_own(selected: JointSelected, text: Rows) -> None:
    """Raise `InvalidArgumentError` unless rows are those of the prompt that the image was drawn for."""
    own = selected.joint.embedding
    if text.shape != own.shape or not torch.equal(text.detach().to(own), own):
        raise InvalidArgumentError(
            "embedding",
            tuple(text.shape),
            f"with attention={selected.attention!r} the prompt's own rows, trace.joint.embedding {tuple(own.shape)}; "
            "with attention='concept' any",
        )


class _ConceptSum(torch.autograd.Function):
    """The sum of a concept stream's maps; for the gradient every evaluation's stream runs once more, so that one graph exists."""

    @staticmethod
    def forward(ctx: Any, text: Tensor, selected: JointSelected) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.save_for_backward(text)
        ctx.selected = selected
        kept = selected.joint.sides_kept(selected.needs, selected.evaluations)
        return _summed(selected, [text], None, kept)[0][""]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # type: ignore[bad-override]  # noqa: ANN401 - the same
        (text,), selected = ctx.saved_tensors, ctx.selected
        total = torch.zeros_like(text)
        for _, side in selected.joint.sides_kept(selected.needs, selected.evaluations):
            with torch.enable_grad():
                rows = text.detach().requires_grad_()
                maps = torch.stack([each for _, _, each in _maps(selected, side, rows)]).sum(dim=0)
                total += torch.autograd.grad(maps, rows, grad_outputs[0])[0]
        return total, None
