"""The concept stream: rows of any text that run beside a prompt, read the image, and write nothing back (ConceptAttention)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ovam.tracing.joint import of_words, part_of
from ovam.tracing.keys import place_of, type_of
from ovam.tracing.sides import Side

LARGEST_HALF = 65504  # of half precision, to which FLUX cuts its text


def concept_outputs(
    unet: Any,  # noqa: ANN401 - a transformer
    side: Side,
    rows: Float[Tensor, "tokens text_width"],
    blocks: Sequence[str],
) -> Iterator[tuple[str, Float[Tensor, "tokens width"]]]:
    """Run rows of text through the text's weights beside one evaluation; yield what they attend to in each of some blocks.

    In every block of two streams the rows attend to themselves and to the pixels, whose keys and values are the evaluation's.
    They are normalised, projected, gated and fed forward as the prompt's own rows are. Differentiable with respect to `rows`.
    """
    states = unet.context_embedder(rows.to(place_of(unet), type_of(unet))[None])
    rotation = part_of(side.rotation, 0, states.shape[1])
    last = list(side.blocks)[-1]
    for name, known in side.blocks.items():
        block = unet.get_submodule(name.removesuffix(".attn"))
        attended, states = _block(block, known, states, side.modulation, rotation, ends=name == last)
        if name in blocks:
            yield name, attended[0]


def concept_scores(
    outputs: Float[Tensor, "tokens width"], pixels: Float[Tensor, "1 pixels width"]
) -> Float[Tensor, "tokens pixels"]:
    """Multiply what rows of text attend to with what pixels attend to, heads side by side, in single precision at least."""
    exact = torch.promote_types(outputs.dtype, torch.float32)
    return outputs.to(exact) @ pixels[0].to(exact).T


def _block(
    block: Any,  # noqa: ANN401 - a joint transformer block
    known: Any,  # noqa: ANN401 - a BlockSide with keys and values
    states: Float[Tensor, "1 tokens width"],
    modulation: Float[Tensor, "1 modulations"],
    rotation: Any,  # noqa: ANN401 - a Rotation
    *,
    ends: bool,
) -> tuple[Tensor, Tensor]:
    """Return what the rows attend to in a block, and the rows after it; where the stream `ends`, as they were."""
    normed, *gates = _modulated(block, states, modulation)
    words = of_words(block.attn, normed, rotation)
    keys, values = (  # in either order: a softmax knows none
        torch.cat((one, other), dim=2) for one, other in ((words.keys, known.keys), (words.values, known.values))
    )
    attended = scaled_dot_product_attention(words.queries, keys, values).transpose(1, 2).flatten(2)
    if not gates or ends:
        return attended, states
    gate, shift, scale, gate_after = gates
    states = states + gate[:, None] * block.attn.to_add_out(attended)
    fed = block.ff_context(block.norm2_context(states) * (1 + scale[:, None]) + shift[:, None])
    states = states + gate_after[:, None] * fed
    if states.dtype == torch.float16:
        states = states.clip(-LARGEST_HALF, LARGEST_HALF)
    return attended, states


def _modulated(block: Any, states: Float[Tensor, "1 tokens width"], modulation: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
    """Return the normed rows; then the gate of what they attend to, and of the feed-forward its shift, scale and gate.

    The last block of SD3 has no more use for its text, and none of the latter.
    """
    if getattr(block, "context_pre_only", False):
        return (block.norm1_context(states, modulation),)
    if isinstance(block.norm1_context, nn.LayerNorm):  # of FLUX.2, whose blocks share their modulation
        shift, scale, *gates = modulation.chunk(6, dim=-1)
        return (1 + scale[:, None]) * block.norm1_context(states) + shift[:, None], *gates
    return block.norm1_context(states, emb=modulation)
