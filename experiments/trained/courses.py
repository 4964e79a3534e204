"""What the two networks learn: their losses on cached examples, as published but for their sizes."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.trained.cache import Cached
from experiments.trained.training import Loss
from ovam.trained.datasetdm import BACKGROUND, OBJECT, DatasetDM, decoder_config
from ovam.trained.grounded_diffusion import GroundedDiffusion

BATCH = 4
"""Published 1; every image is normalised by itself, so the batch changes only how smooth the steps are."""


def of_grounded_diffusion(module: GroundedDiffusion, examples: Cached, rows: Tensor, batch: int = BATCH) -> Loss:
    """Cross entropy of every pixel, summed over the classes that the prompt names."""

    def loss(rng: np.random.Generator) -> Tensor:
        picked = torch.from_numpy(rng.choice(len(examples), batch, replace=False))
        total = torch.zeros(())
        for named in (1, 2):
            some = picked[(examples.classes[picked] >= 0).sum(dim=1) == named]
            if len(some):
                truth = examples.masks[some, :named].float()
                logits = module(_levels(examples, some), rows[examples.classes[some, :named]], truth.shape[-2:])
                total = total + named * len(some) * binary_cross_entropy_with_logits(logits, truth)
        return total / batch

    return loss


def of_datasetdm(module: DatasetDM, examples: Cached, rows: Tensor, batch: int = BATCH) -> Loss:
    """Mask2Former's loss on sampled points after Hungarian matching, of the object and of the ground."""
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss  # noqa: PLC0415 - needs SciPy

    config = decoder_config(module.sizes)
    weights = {"loss_cross_entropy": config.class_weight, "loss_mask": config.mask_weight, "loss_dice": config.dice_weight}
    criterion = Mask2FormerLoss(config, weights)

    def loss(rng: np.random.Generator) -> Tensor:
        picked = torch.from_numpy(rng.choice(len(examples), batch, replace=False))
        labels, masks = module(_levels(examples, picked), rows[examples.classes[picked, 0]])
        inside = [examples.masks[one, 0].float() for one in picked]
        truths = [torch.stack([1 - mask, mask]) for mask in inside]
        names = [torch.tensor([BACKGROUND, OBJECT])] * batch
        parts = criterion(masks, labels, truths, names)
        return torch.stack([weights[name] * part for name, part in parts.items()]).sum()

    return loss


def _levels(examples: Cached, picked: Tensor) -> list[Tensor]:
    return [level[picked].float() for level in examples.levels]
