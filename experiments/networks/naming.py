"""Backbones that have learned to name what a picture shows: what ImageNet is to the published networks.

They learn from scenes of one thing, in the styles that the generator has seen; never in the one that counts as real.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoBackbone, PreTrainedConfig

from experiments.evaluation.world import Picture
from experiments.networks.nets import Backbone, Network, configuration
from experiments.networks.training import parted
from experiments.networks.views import pixels, training_view
from experiments.world.model.muon import Muon, is_matrix
from experiments.world.render import BACKBONES
from experiments.world.scene import WORLD, classes_of, draw, sample

ALONE = replace(WORLD, name="one thing", shares=(1.0, 0.0, 0.0, 0.0))
SMOOTHING = 0.1  # of the truth
BATCH = 32
RATES: Mapping[Backbone, float] = {"ResNet": 0.015, "Swin": 0.004}
"""Muon's, for matrices and kernels; AdamW learns the rest at a fifth of it."""


class Namer(nn.Module):
    """A backbone, and a linear layer that names the mean of its coarsest features."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.backbone = AutoBackbone.from_config(config)
        self.names = nn.Linear(self.backbone.channels[-1], len(classes_of(ALONE)))

    def forward(self, images: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n classes"]:
        """Scores of classes."""
        return self.names(self.backbone(images).feature_maps[-1].mean(dim=(2, 3)))


def one_thing(seed: int) -> tuple[Picture, int]:
    """A picture of one thing, and which class it is: classes in turn."""
    classes = classes_of(ALONE)
    which = seed % len(classes)
    drawing = draw(sample(np.random.default_rng((BACKBONES, seed)), ALONE, (classes[which],)))
    return drawing.image, which


def views(rng: np.random.Generator, side: int) -> tuple[Tensor, Tensor]:
    """Views of new pictures, and their classes."""
    shown, named = [], []
    for seed in rng.integers(2**40, size=BATCH):
        image, which = one_thing(int(seed))
        square, _ = training_view(rng, image, np.zeros(image.shape[:2], np.uint8), side)
        shown.append(square)
        named.append(which)
    return pixels(np.stack(shown)), torch.tensor(named)


def named(backbone: Backbone, steps: int, side: int) -> tuple[Network, float]:
    """A tiny backbone that has learned to name things, and what share of the new pictures of its last tenth of steps it named."""
    torch.manual_seed(0)
    rng, net = np.random.default_rng(BACKBONES), Namer(configuration(backbone, "tiny")).train()
    matrices, others = parted(net, lambda _, parameter: is_matrix(parameter))
    optimizers = (Muon(matrices, lr=RATES[backbone]), torch.optim.AdamW(others, lr=RATES[backbone] / 5))
    decays = [LambdaLR(one, lambda step: 1 - step / steps) for one in optimizers]
    right: list[float] = []
    for _ in range(steps):
        images, classes = views(rng, side)
        scores = net(images)
        net.zero_grad()
        cross_entropy(scores, classes, label_smoothing=SMOOTHING).backward()
        for one in (*optimizers, *decays):
            one.step()
        right.append(float((scores.argmax(dim=1) == classes).float().mean()))
    return net.backbone, float(np.mean(right[-max(1, steps // 10) :]))
