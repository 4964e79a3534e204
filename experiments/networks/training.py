"""Training a network on examples, and measuring it: the same function for every row of Table 3."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from experiments.evaluation.world import Labels, Picture
from experiments.networks.examples import CLASSES, Examples
from experiments.networks.nets import MASK2FORMER, MASK2FORMER_SWIN, UPERNET, Kind, Network, Size
from experiments.networks.scoring import Confusion, confusion
from experiments.networks.views import pixels, targets, training_view, whole_view
from experiments.world.model.muon import Muon, is_matrix

POWER = 0.9  # of the decay of rates
TOLD = 50  # steps whose losses are told as one
TOGETHER = 16  # images that are looked at in one pass


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    optimizer: Literal["sgd", "adamw", "muon"]
    """Muon learns matrices and kernels, AdamW the rest, at a fifth of the rate."""
    rate: float
    weight_decay: float
    clip: float | None = None
    """The most that the norm of all gradients may be."""
    backbone: float = 1.0
    """Of the rate, what a backbone learns at that has been trained before."""

    def at(self, share: float) -> "Recipe":
        """The same at a share of the rate."""
        return replace(self, rate=share * self.rate)

    def optimizers_of(self, net: Network) -> list[Optimizer]:
        """The optimizers of a network's parameters."""
        if self.optimizer == "muon":
            matrices, others = parted(net, lambda _, parameter: is_matrix(parameter))
            return [Muon(matrices, lr=self.rate), AdamW(others, lr=self.rate / 5, weight_decay=self.weight_decay)]
        backbone, head = parted(net, lambda name, _: name.startswith(BACKBONES))
        groups = [{"params": backbone, "lr": self.backbone * self.rate}, {"params": head, "lr": self.rate}]
        if self.optimizer == "sgd":
            return [SGD(groups, lr=self.rate, momentum=0.9, weight_decay=self.weight_decay)]
        return [AdamW(groups, lr=self.rate, weight_decay=self.weight_decay)]


def parted(net: Network, apart: Callable[[str, nn.Parameter], bool]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """A network's parameters that are something, and those that are not."""
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in net.named_parameters():
        parts[apart(name, parameter)].append(parameter)
    return parts[True], parts[False]


BACKBONES = ("backbone.", "model.pixel_level_module.encoder.")
_QUERIES = Recipe("adamw", 1e-4, 0.05, clip=0.01, backbone=0.1)
RECIPES: Mapping[Size, Mapping[str, Recipe]] = {
    "published": {UPERNET: Recipe("sgd", 0.01, 5e-4), MASK2FORMER: _QUERIES, MASK2FORMER_SWIN: _QUERIES},
    "tiny": {
        UPERNET: Recipe("muon", 0.015, 0.0),
        MASK2FORMER: Recipe("muon", 0.004, 0.0),
        MASK2FORMER_SWIN: Recipe("muon", 0.004, 0.0),
    },
}
"""The published ones are MMSegmentation's, for backbones trained on ImageNet. The others were chosen on renders that nothing else
uses: in 3,000 steps on real images Mask2Former (ResNet) reaches 51 by Muon at its rate, 9 at UPerNet's, 29 by AdamW at 1e-3."""


def train(
    net: Network, kind: Kind, examples: Examples, recipe: Recipe, steps: int, batch: int, side: int, seed: int
) -> list[float]:
    """Train a network in place, and return the mean loss of every `TOLD` steps. The seed sets order and views of the images."""
    optimizers, drawn = recipe.optimizers_of(net), batches(examples, batch, side, seed)
    decays = [LambdaLR(each, lambda step: (1 - step / steps) ** POWER) for each in optimizers]
    net.train()
    losses: list[float] = []
    for _ in range(steps):
        images, labels = next(drawn)
        loss = kind.loss(net, pixels(images), targets(labels))
        net.zero_grad()
        loss.backward()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        for each in (*optimizers, *decays):
            each.step()
        losses.append(float(loss.detach()))
    return [round(float(np.mean(losses[start : start + TOLD])), 4) for start in range(0, steps, TOLD)]


def batches(examples: Examples, batch: int, side: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Views of images in an order of their own for every pass over all of them, without end."""
    rng, waiting = np.random.default_rng(seed), list[int]()
    while True:
        while len(waiting) < batch:
            waiting += rng.permutation(len(examples)).tolist()
        views = [training_view(rng, *examples[index], side) for index in waiting[:batch]]
        del waiting[:batch]
        yield np.stack([image for image, _ in views]), np.stack([labels for _, labels in views])


def measured(net: Network, kind: Kind, examples: Examples, side: int) -> Confusion:
    """One confusion matrix over all images, each at its own size."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for start in range(0, len(examples), TOGETHER):
        several = [examples[index] for index in range(start, min(start + TOGETHER, len(examples)))]
        found = segmented(net, kind.scores, [image for image, _ in several], side)
        for labels, (_, truth) in zip(found, several, strict=True):
            total += confusion(labels, truth)
    return total


@torch.inference_mode()
def segmented(net: Network, scores: Callable[[Network, Tensor], Tensor], images: list[Picture], side: int) -> list[Labels]:
    """The labels of images of any sizes, each at its own size."""
    net.eval()
    views = [whole_view(image, side) for image in images]
    found = scores(net, pixels(np.stack([view for view, _ in views])))
    labels = []
    for image, (_, (height, width)), one in zip(images, views, found, strict=True):
        whole = interpolate(one[None, :, :height, :width], size=image.shape[:2], mode="bilinear", align_corners=False)
        labels.append(whole[0].argmax(dim=0).numpy().astype(np.uint8))
    return labels
