"""Cross-attentions of transformers that project their text before they attend to it (PixArt, Sana)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.tracing.keys import FusedKeys, captured_layer, is_fused


class CaptionKeys(nn.Module):
    """From a text encoder's rows to keys: the caption's projection and norm, the block's projection and norm."""

    def __init__(self, captions: nn.Sequential, to_k: nn.Module, norm_k: nn.Module | None) -> None:
        super().__init__()
        self.captions, self.to_k, self.norm_k = captions, to_k, norm_k

    @property
    def in_features(self) -> int:
        """Length of the text encoder's rows."""
        projection: Any = self.captions[0]
        return int(projection.linear_1.in_features)

    @property
    def out_features(self) -> int:
        """Length of the keys, of all heads."""
        return int(self.to_k.out_features)  # type: ignore[arg-type]

    @property
    def base_layer(self) -> "CaptionKeys":
        """The same without the adapters of the block's projection."""
        return self.projecting(getattr(self.to_k, "base_layer", self.to_k))

    def captured(self) -> "CaptionKeys":
        """Return a copy that projects as this does now, whatever happens to the block's adapters later."""
        return self.projecting(captured_layer(self.to_k))

    def projecting(self, to_k: nn.Module) -> "CaptionKeys":
        """Return the same with another projection of the block."""
        return CaptionKeys(self.captions, to_k, self.norm_k)

    def forward(self, embedding: Float[Tensor, "tokens text_width"]) -> Float[Tensor, "tokens channels"]:
        """Project an embedding to keys."""
        keys = self.to_k(self.captions(embedding))
        return keys if self.norm_k is None else self.norm_k(keys)


class CaptionedAttention:
    """A cross-attention, with keys of what the text encoder gives; all else is the attention's own."""

    def __init__(self, attention: Any, captions: nn.Sequential) -> None:  # noqa: ANN401 - an attention
        self.attention = attention
        self._captions = captions

    @property
    def to_k(self) -> CaptionKeys:
        """The projection to keys, as it is now."""
        attention = self.attention
        to_k = FusedKeys(attention.to_kv) if is_fused(attention) else attention.to_k
        return CaptionKeys(self._captions, to_k, getattr(attention, "norm_k", None))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the attention has
        """Return what the attention has."""
        return getattr(self.attention, name)


def captioned(unet: nn.Module, attentions: dict[str, Any]) -> dict[str, Any]:
    """Return cross-attentions with keys of the text encoder's rows, where a model projects these before all blocks."""
    projection = getattr(unet, "caption_projection", None)
    if projection is None:
        return attentions
    norm = getattr(unet, "caption_norm", None)
    captions = nn.Sequential(*(each for each in (projection, norm) if each is not None))
    return {name: CaptionedAttention(attention, captions) for name, attention in attentions.items()}


def across_heads(attention: Any) -> bool:  # noqa: ANN401 - an attention
    """Whether an attention normalises queries and keys before it splits them into heads, if it does."""
    norms = [norm for norm in (attention.norm_q, attention.norm_k) if norm is not None]
    return all(isinstance(weight := getattr(norm, "weight", None), Tensor) and _wide(weight, attention) for norm in norms)


def _wide(weight: torch.Tensor, attention: Any) -> bool:  # noqa: ANN401 - an attention
    return weight.shape[-1] == attention.to_q.out_features
