"""The three networks of Table 3, from transformers: their sizes, backbones and losses, and the scores that they give a pixel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    PreTrainedConfig,
    ResNetConfig,
    SegformerImageProcessorPil,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from experiments.networks.examples import VOC
from experiments.networks.views import DEVIATION, MEAN
from ovam.core.label_maps import IGNORE

Size = Literal["tiny", "published"]
Network = Any  # a module of transformers
STAGES = ["stage1", "stage2", "stage3", "stage4"]
UPERNET, MASK2FORMER, MASK2FORMER_SWIN = "UPerNet, ResNet", "Mask2Former, ResNet", "Mask2Former, Swin"
Backbone = Literal["ResNet", "Swin"]

RESNET: Mapping[Size, dict[str, Any]] = {
    "tiny": {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "published": {},  # ResNet-50 is the default
}
SWIN: Mapping[Size, dict[str, Any]] = {
    "tiny": {"image_size": 64, "embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4,
             "drop_path_rate": 0.0},
    "published": {"image_size": 384, "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
}  # fmt: skip
IMAGENET: Mapping[Backbone, str] = {"ResNet": "microsoft/resnet-50", "Swin": "microsoft/swin-base-patch4-window12-384-in22k"}
"""Backbones of the published size that were trained on ImageNet, by hub id."""
PYRAMID: Mapping[Size, dict[str, Any]] = {
    "tiny": {"hidden_size": 48, "auxiliary_channels": 24, "auxiliary_in_channels": 64, "pool_scales": [1, 2]},
    "published": {"hidden_size": 512, "auxiliary_channels": 256, "auxiliary_in_channels": 1024},
}
QUERIES: Mapping[Size, dict[str, Any]] = {
    "tiny": {"feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64, "encoder_feedforward_dim": 128, "encoder_layers": 2,
             "decoder_layers": 4, "num_attention_heads": 4, "dim_feedforward": 256, "num_queries": 12, "train_num_points": 512},
    "published": {},
}  # fmt: skip
SIDES: Mapping[Size, int] = {"tiny": 64, "published": 512}
"""Of the squares that networks see, in pixels."""


@dataclass(frozen=True)
class Kind:
    """A network of Table 3."""

    backbone: Backbone
    build: Callable[[Size], Network]
    loss: Callable[[Network, Tensor, Tensor], Tensor]
    scores: Callable[[Network, Tensor], Tensor]
    family: type
    processor: type


def named_labels() -> dict[str, Any]:
    """The classes' names, as configurations have them."""
    names = ("background", *VOC)
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def configuration(backbone: Backbone, size: Size) -> PreTrainedConfig:
    """That of a backbone, which gives the features of all its stages."""
    given = ResNetConfig(**RESNET[size]) if backbone == "ResNet" else SwinConfig(**SWIN[size])
    given.out_features = STAGES
    return given


def backbone_of(net: Network) -> Network:
    """The part of a network that is one."""
    return net.backbone if isinstance(net, UperNetForSemanticSegmentation) else net.model.pixel_level_module.encoder


def upernet(size: Size) -> Network:
    """UPerNet on a ResNet, with its auxiliary head."""
    backbone = configuration("ResNet", size)
    config = UperNetConfig(backbone_config=backbone, **PYRAMID[size], loss_ignore_index=IGNORE, **named_labels())
    return UperNetForSemanticSegmentation(config)


def mask2former(size: Size) -> Network:
    """Mask2Former on a ResNet."""
    return queried("ResNet", size)


def mask2former_swin(size: Size) -> Network:
    """Mask2Former on a Swin transformer."""
    return queried("Swin", size)


def queried(backbone: Backbone, size: Size) -> Network:
    """Mask2Former on a backbone."""
    given = configuration(backbone, size)
    config = Mask2FormerConfig(backbone_config=given, **QUERIES[size], ignore_value=IGNORE, **named_labels())
    return Mask2FormerForUniversalSegmentation(config)


def pixel_loss(net: Network, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, "n h w"]) -> Tensor:
    """Cross-entropy of every pixel, with 0.4 times that of the auxiliary head."""
    return net(images, labels=labels).loss


def mask_loss(net: Network, images: Float[Tensor, "n 3 h w"], labels: Int64[Tensor, "n h w"]) -> Tensor:
    """Mask2Former's loss: every class in an image, the background among them, is a mask that a query is to find."""
    present = [one.unique()[one.unique() != IGNORE] for one in labels]
    masks = [(one == values[:, None, None]).float() for one, values in zip(labels, present, strict=True)]
    return net(images, mask_labels=masks, class_labels=present).loss.squeeze()


def pixel_scores(net: Network, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes h w"]:
    """Scores of classes, pixel by pixel."""
    return net(images).logits


def mask_scores(net: Network, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes h w"]:
    """Scores of classes: the masks of all queries, weighted by what they are of."""
    found = net(images)
    of_class = found.class_queries_logits.softmax(dim=-1)[..., :-1]
    scores = torch.einsum("nqc,nqhw->nchw", of_class, found.masks_queries_logits.sigmoid())
    return interpolate(scores, size=images.shape[-2:], mode="bilinear", align_corners=False)


_QUERIED = (mask_loss, mask_scores, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil)
KINDS: Mapping[str, Kind] = {
    UPERNET: Kind("ResNet", upernet, pixel_loss, pixel_scores, UperNetForSemanticSegmentation, SegformerImageProcessorPil),
    MASK2FORMER: Kind("ResNet", mask2former, *_QUERIED),
    MASK2FORMER_SWIN: Kind("Swin", mask2former_swin, *_QUERIED),
}


def processor_of(kind: Kind, side: int) -> Any:  # noqa: ANN401 - an image processor of transformers
    """What makes images ready for a network in transformers' pipelines; it stretches them to a square."""
    options: dict[str, Any] = {"size": {"height": side, "width": side}, "image_mean": [MEAN] * 3, "image_std": [DEVIATION] * 3}
    return kind.processor(**options, **({"ignore_index": IGNORE} if kind.loss is mask_loss else {}))
