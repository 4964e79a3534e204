"""DatasetDM's perception decoder (Wu et al., DatasetDM: Synthesizing Data with Perception Annotations, NeurIPS 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.trained.layers import Fusion, Levels, resized
from ovam.trained.pyramid import Level

BACKGROUND, OBJECT = 0, 1
LABELS: Final = 2
"""Labels of a query; one that is none of them matches nothing."""
LEVELS: Final = 3
"""Grids that queries attend to, the finest of all."""
FINER: Final = 2.5
"""Side of the maps that masks are read from, by that of the finest features; published 160 for 64."""


@dataclass(frozen=True)
class DatasetDMSizes:
    """How large the decoder is; the defaults suit the bundled model."""

    channels: tuple[int, ...]
    """Of the features of both halves and of the attention maps, grid by grid, the coarsest first."""
    text_width: int
    width: int = 64
    """Of the transformer, and of each grid's reduced features; published 256."""
    heads: int = 4
    layers: int = 6
    """Published 10."""
    feed_forward: int = 256
    queries: int = 10
    """Published 20."""


def decoder_config(sizes: DatasetDMSizes, points: int = 1024) -> Any:  # noqa: ANN401 - of transformers
    """Return the decoder's sizes, and its loss's weights, as transformers names them."""
    from transformers import Mask2FormerConfig  # noqa: PLC0415 - other methods need no Mask2Former

    return Mask2FormerConfig(
        hidden_dim=sizes.width,
        mask_feature_size=sizes.width,
        num_attention_heads=sizes.heads,
        dim_feedforward=sizes.feed_forward,
        decoder_layers=sizes.layers + 1,  # one less is made of them
        num_queries=sizes.queries,
        num_labels=LABELS,
        dropout=0.0,
        class_weight=2.0,
        mask_weight=5.0,
        dice_weight=5.0,
        no_object_weight=0.1,
        train_num_points=points,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
    )


class DatasetDM(nn.Module):
    """Mask2Former's decoder on fused features and attention maps; every query carries the class's text.

    >>> module = DatasetDM(DatasetDMSizes(channels=(8, 6, 4), text_width=32))
    >>> levels = [torch.zeros(1, 8, 4, 4), torch.zeros(1, 6, 8, 8), torch.zeros(1, 4, 16, 16)]
    >>> labels, masks = module(levels, torch.zeros(1, 32))
    >>> labels.shape, masks.shape
    (torch.Size([1, 10, 3]), torch.Size([1, 10, 40, 40]))
    """

    def __init__(self, sizes: DatasetDMSizes) -> None:
        from transformers.models.mask2former import modeling_mask2former as mask2former  # noqa: PLC0415 - as above

        super().__init__()
        self.sizes = sizes
        width, count = sizes.width, len(sizes.channels)
        self.fusion = Fusion(sizes.channels, [width] * count, narrow=True)
        self.position = mask2former.Mask2FormerSinePositionEmbedding(width // 2, normalize=True)
        self.level_embed = nn.Embedding(min(count, LEVELS), width)
        self.queries_embedder = nn.Embedding(sizes.queries, width)
        self.queries_features = nn.Embedding(sizes.queries, width)
        self.with_text = nn.Linear(width + sizes.text_width, width)
        self.decoder = mask2former.Mask2FormerMaskedAttentionDecoder(decoder_config(sizes))
        self.class_predictor = nn.Linear(width, LABELS + 1)
        for parameter in self.decoder.layers.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, levels: Levels, text: Float[Tensor, "batch text_width"]
    ) -> tuple[Float[Tensor, "batch queries labels"], Float[Tensor, "batch queries height width"]]:
        """Return the logits of every query's label and of its mask."""
        memory = self.fusion(levels)[-LEVELS:]
        finest = memory[-1]
        finer = [round(FINER * side) for side in finest.shape[-2:]]
        places = [self.position(maps.shape, maps.device, maps.dtype, None) for maps in memory]
        queries = torch.cat(
            [
                self.queries_features.weight.expand(len(text), -1, -1),
                text[:, None].expand(-1, len(self.queries_features.weight), -1),
            ],
            dim=-1,
        )
        found = self.decoder(
            inputs_embeds=self.with_text(queries).transpose(0, 1),
            query_position_embeddings=self.queries_embedder.weight[:, None].expand(-1, len(text), -1),
            pixel_embeddings=resized(finest, finer),
            encoder_hidden_states=[
                maps.flatten(2).permute(2, 0, 1) + self.level_embed.weight[level] for level, maps in enumerate(memory)
            ],
            multi_stage_positional_embeddings=[place.flatten(2).permute(2, 0, 1) for place in places],
            feature_size_list=[maps.shape[-2:] for maps in memory],
            return_dict=True,
        )
        last = found.intermediate_hidden_states[-1].transpose(0, 1)
        return self.class_predictor(last), found.masks_queries_logits[-1]

    def probability(
        self, levels: Sequence[Level], row: Float[Tensor, " text_width"], size: tuple[int, int]
    ) -> Float[Tensor, "height width"]:
        """Return how likely each pixel is of a class, by the query that is surest of its label and of its mask."""
        labels, masks = self([level[None] for level in levels], row[None])
        masks = resized(masks, size)[0].sigmoid()
        inside = masks > 0.5
        sure = (masks * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
        return masks[(labels[0].softmax(dim=-1)[:, OBJECT] * sure).argmax()]

    def fold(self) -> None:
        """Write the spectral norms into the weights."""
        self.fusion.fold()
