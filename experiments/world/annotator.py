"""The annotators: small supervised segmenters that play the human who paints masks of generated images.

They learn from renders of the training sets and their exact masks alone; they never see an attention map or the held-out
set. `annotator_training.py` trains them: one a U-Net, the other, for a second opinion, a net of dilated convolutions.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from experiments.world import atlas
from experiments.world.model.autoencoder import pixels
from experiments.world.model.parallel import device

MODELS = Path(__file__).parents[2] / "models" / "annotator"
FIRST, SECOND = "unet", "dilated"

Images = NDArray[np.uint8]  # (n, height, width, 3)
Labels = NDArray[np.uint8]  # (n, height, width): 0 the ground, k+1 class k of the atlas


def layer(inputs: int, outputs: int, dilation: int = 1, stride: int = 1, size: int = 3) -> nn.Sequential:
    """A convolution, normalised and rectified."""
    padding = dilation * (size - 1) // 2
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def scores(inputs: int, classes: int) -> nn.Conv2d:
    """Scores of every class for the four pixels of a cell; before training almost everything is ground."""
    head = nn.Conv2d(inputs, 4 * classes, 1)
    bias = torch.zeros(4 * classes)
    bias[:4] = 5.0
    head.weight, head.bias = nn.Parameter(0.1 * head.weight.detach()), nn.Parameter(bias)
    return head


class Unet(nn.Module):
    """Half resolution and below, four scales; a pixel shuffle brings the scores back to full resolution."""

    widths = (32, 56, 96, 160)

    def __init__(self, classes: int) -> None:
        super().__init__()
        first, *_ = self.widths
        self.stem = nn.Sequential(layer(12, first), layer(first, first))
        steps = list(itertools.pairwise(self.widths))
        self.down = nn.ModuleList(nn.Sequential(layer(a, b, stride=2), layer(b, b)) for a, b in steps)
        self.side = nn.ModuleList(layer(b, a, size=1) for a, b in steps)
        self.up = nn.ModuleList(layer(a, a) for a, _ in steps)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(self.widths[-1], self.widths[-1], 1))
        self.head = scores(first, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> scores (n, classes, h, w); h and w are multiples of 16."""
        hidden = self.stem(pixel_unshuffle(image, 2))
        skips = []
        for stage in self.down:
            skips.append(hidden)
            hidden = stage(hidden)
        hidden = hidden + self.context(hidden)
        for side, up, skip in zip(reversed(self.side), reversed(self.up), reversed(skips), strict=True):
            hidden = up(interpolate(side(hidden), scale_factor=2, mode="bilinear", align_corners=False) + skip)
        return pixel_shuffle(self.head(hidden), 2)


class Dilated(nn.Module):
    """One scale at a quarter of the resolution, seeing further by dilation; half resolution only at the end."""

    width = 72
    dilations = (1, 2, 4, 8, 1, 2, 4, 8, 1, 2)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fine = layer(12, 24)
        self.stem = layer(24, self.width, stride=2)
        self.blocks = nn.ModuleList(layer(self.width, self.width, dilation) for dilation in self.dilations)
        self.wide = nn.Conv2d(self.width, 96, 1)
        self.join = layer(24 + 24, 48)
        self.head = scores(48, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] -> scores (n, classes, h, w); h and w are multiples of 4."""
        fine = self.fine(pixel_unshuffle(image, 2))
        hidden = self.stem(fine)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        coarse = pixel_shuffle(self.wide(hidden), 2)
        return pixel_shuffle(self.head(self.join(torch.cat([coarse, fine], dim=1))), 2)


NETS: dict[str, type[Unet | Dilated]] = {FIRST: Unet, SECOND: Dilated}


class Annotator:
    """A trained net that labels images."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval().to(device())

    @torch.no_grad()
    def labels(self, images: Images) -> Labels:
        """A class a pixel: 0 the ground, k+1 class k of the atlas."""
        parts = [self.scores(pixels(images[start : start + 16])).argmax(dim=1) for start in range(0, len(images), 16)]
        return torch.cat(parts).byte().cpu().numpy()

    def scores(self, image: Tensor) -> Tensor:
        """Probabilities (n, classes, h, w), the sum of the picture's and of its mirror image's: one point of mIoU better."""
        return self.net(image).softmax(dim=1) + self.net(image.flip(-1)).softmax(dim=1).flip(-1)

    def mask(self, image: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
        """Where in an image (height, width, 3) the annotator sees a class."""
        label = atlas.load().label(name)
        return self.labels(image[None])[0] == label

    def save(self, file: Path, kind: str) -> None:
        """Write the weights in half precision, with the version of the atlas they belong to."""
        weights = {k: v.half() if v.is_floating_point() else v for k, v in self.net.state_dict().items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, file, {"atlas": atlas.load().version, "net": kind})

    @staticmethod
    def load(kind: str = FIRST, folder: Path = MODELS) -> "Annotator":
        """The trained annotator of a kind; an `AtlasError` if its weights are missing, damaged or of another atlas."""
        file = folder / f"{kind}.safetensors"
        try:
            with safe_open(file, "pt") as opened:
                told = opened.metadata() or {}
            net = NETS[told["net"]](len(atlas.load().classes) + 1)
            atlas.check(told["atlas"])
            net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()})
        except FileNotFoundError as error:
            raise atlas.AtlasError(f"The annotator {file} is missing: run experiments.world.annotator_training.") from error
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise atlas.AtlasError(f"The annotator {file} is damaged ({error}).") from error
        return Annotator(net)


def overlaps(predicted: Labels, truth: Labels) -> NDArray[np.float64]:
    """IoU of every class over a whole set of images, the ground first; nan where a class is not in the truth."""
    classes = len(atlas.load().classes) + 1
    counts = np.bincount(truth.reshape(-1).astype(int) * classes + predicted.reshape(-1), minlength=classes**2)
    table = counts.reshape(classes, classes).astype(float)
    both, either = np.diag(table), table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
    return np.divide(both, either, out=np.full(classes, np.nan), where=table.sum(axis=1) > 0)
