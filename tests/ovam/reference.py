"""Attention computed the long way round, to compare with: explicit probabilities, map by map, no tricks."""

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn.functional import interpolate

Recorded = dict[str, list[Tensor]]


class ExplicitAttention:
    """An attention processor that computes the probabilities in full and keeps those of cross-attentions."""

    def __init__(self, name: str, recorded: Recorded) -> None:
        self.name = name
        self.recorded = recorded

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):  # noqa: ANN001, ANN204, ANN003
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(context))
        value = attn.head_to_batch_dim(attn.to_v(context))
        probabilities = attn.get_attention_scores(query, key, attention_mask)
        if encoder_hidden_states is not None:
            split = probabilities.unflatten(0, (hidden_states.shape[0], attn.heads))
            self.recorded.setdefault(self.name, []).append(split)
        return attn.to_out[0](attn.batch_to_head_dim(probabilities @ value))


def record_attention(pipeline: StableDiffusionPipeline) -> Recorded:
    """Make a pipeline record (batch, heads, pixels, tokens) of every cross-attention at every evaluation."""
    recorded: Recorded = {}
    pipeline.unet.set_attn_processor(
        {name: ExplicitAttention(name.removesuffix(".processor"), recorded) for name in pipeline.unet.attn_processors}
    )
    return recorded


def aggregate(recorded: Recorded, row: int, grids: dict[str, tuple[int, int]]) -> Tensor:
    """Resize every single map to the largest grid and add them up: (tokens, height, width), in double precision."""
    size = max(grids.values())
    total = torch.zeros(1, dtype=torch.float64)
    for name, grid in grids.items():
        for probabilities in recorded[name]:
            for head in probabilities[row].double():
                maps = head.T.unflatten(-1, grid)[None]
                total = total + interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
    return total
