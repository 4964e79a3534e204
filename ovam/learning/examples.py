"""Training examples: images' traces with the masks of their classes, brought to one form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from ovam.core.label_maps import IGNORE
from ovam.core.mask_files import marks_of
from ovam.errors import ExamplesOfOtherModelsError, InvalidArgumentError, UnusableMaskError
from ovam.tracing.blocks import Block
from ovam.tracing.keys import differ, fingerprint
from ovam.tracing.trace import Trace, require_trace

if TYPE_CHECKING:
    from PIL import Image

Mask = Union[Tensor, np.ndarray, "Image.Image"]
Example = tuple[Trace, Mask]


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """A trace and the masks of the classes in its image."""

    trace: Trace
    target: Float[Tensor, "classes height width"]
    """How much of each pixel belongs to each class; 0 where a pixel does not count."""
    counted: Bool[Tensor, "height width"] | None
    """Which pixels count; `None`: all."""


def training_examples(examples: Sequence[Example], classes: int) -> tuple[TrainingExample, ...]:
    """Bring every example's mask to (classes, height, width) and refuse those that teach nothing.

    An array or a tensor is (height, width), bool or in [0, 1], for background and one class; or (height, width) integers,
    a class each, 255 for pixels that do not count; or (classes, height, width), bool or in [0, 1], row 0 the background.
    A PIL image is read as `ovam.core.mask_files.marks_of_image` reads it; where there are several classes, an indexed or
    grey one holds labels. A mask of another size than its image is resized by the nearest pixel.

    Raises `InvalidArgumentError` for no example or a mask of another shape, `UnusableMaskError` for a mask that is out of
    range, or covered by one class, and for a class that no mask has, `MaskUnreadableError`, and `ExamplesOfOtherModelsError`.
    """
    if not examples:
        raise InvalidArgumentError("examples", examples, "at least one (trace, mask)")
    for number, example in enumerate(examples):
        if not isinstance(example, Sequence) or len(example) != 2:
            raise InvalidArgumentError(f"example {number}", type(example).__name__, "a pair: a trace and its mask")
        require_trace(example[0])
    require_one_model([trace for trace, _ in examples])
    found = tuple(_example(trace, mask, classes, number) for number, (trace, mask) in enumerate(examples))
    for row in range(classes):
        if not any(bool(one.target[row].any()) for one in found):
            raise UnusableMaskError(f"class {row} has no pixel in any of {len(found)} masks")
    return found


def require_one_model(traces: Sequence[Trace]) -> None:
    """Raise `ExamplesOfOtherModelsError` when traces are of models whose keys differ.

    Blocks of one name must have the same shape and the same projection; which blocks were kept may differ.
    """
    known: dict[str, tuple[int, Block]] = {}
    for number, trace in enumerate(traces):
        if trace.family != traces[0].family:
            message = f"example {number} is of a model of the family {trace.family}, example 0 of {traces[0].family}"
            raise ExamplesOfOtherModelsError(message)
        bound = [None if each.joint is None else each.joint.replay.binding for each in (traces[0], trace)]
        if bound[0] != bound[1]:
            raise ExamplesOfOtherModelsError(f"examples 0 and {number} are of different models: their weights or adapters differ")
        if trace.width != traces[0].width:
            message = f"example {number} is of a model of text width {trace.width}, example 0 of {traces[0].width}"
            raise ExamplesOfOtherModelsError(message)
        for block in trace.blocks:
            first, same = known.setdefault(block.name, (number, block))
            if not _same_keys(block, same):
                message = f"examples {first} and {number} are of different models: their blocks {block.name!r} differ"
                raise ExamplesOfOtherModelsError(message)


def nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (maps, height, width) to `size` (height, width) by the nearest pixel: no new values."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return interpolate(maps[None].double(), size=size, mode="nearest-exact")[0].to(maps.dtype)


def _example(trace: Trace, mask: Mask, classes: int, number: int) -> TrainingExample:
    """Bring one mask to its image's size and (classes, height, width)."""
    pixels = _pixels_of(mask, classes)
    if isinstance(pixels, np.ndarray) and pixels.dtype.kind == "u":
        pixels = pixels.astype(np.int64)  # torch compares no others of these than bytes
    given = torch.as_tensor(pixels).detach()
    labels = given.ndim == 2 and not given.is_floating_point() and given.dtype != torch.bool
    if labels:
        target, counted = _of_labels(given, classes, number)
    else:
        target, counted = given.to(torch.float32), None
        if target.ndim == 2 and classes == 2:
            target = torch.stack([1 - target, target])
    if target.ndim != 3 or target.shape[0] != classes or target.numel() == 0:
        forms = f"({classes}, height, width), or (height, width) integers" + (", or (height, width)" if classes == 2 else "")
        raise InvalidArgumentError(f"mask {number}", tuple(given.shape), forms)
    if not bool(target.isfinite().all()) or float(target.min()) < 0 or float(target.max()) > 1:
        raise UnusableMaskError(f"mask {number} has values outside of 0 to 1")
    target = nearest(target, trace.image_size)
    counted = None if counted is None else nearest(counted[None], trace.image_size)[0]
    for row, pixels in enumerate(target):
        if bool((pixels == 1).all() if counted is None else (pixels[counted] == 1).all()):
            message = f"mask {number}: class {row} covers the whole image; allowed: at least two classes in it"
            raise UnusableMaskError(message)
    return TrainingExample(trace, target, counted)


def _pixels_of(mask: Any, classes: int) -> Any:  # noqa: ANN401 - a tensor, an array or a PIL image
    """Return what a PIL image marks, or its labels where there are several classes; others stay as they are."""
    if not hasattr(mask, "convert"):
        return mask
    return np.array(mask) if classes > 2 and mask.mode in ("P", "L") else marks_of(mask)


def _of_labels(labels: Tensor, classes: int, number: int) -> tuple[Tensor, Tensor | None]:
    """Split a map of labels into a mask per class, and mark which pixels count."""
    counted = labels != IGNORE
    found = labels[counted]
    if found.numel() == 0:
        raise UnusableMaskError(f"mask {number} has no pixel that counts: all are {IGNORE}")
    if int(found.min()) < 0 or int(found.max()) >= classes:
        message = f"mask {number} has labels from {int(found.min())} to {int(found.max())}; allowed: 0 to {classes - 1}, {IGNORE}"
        raise UnusableMaskError(message)
    if int(found.max()) == 0 and found.numel() < labels.numel() and classes == 2:
        message = f"mask {number} holds 0 and 255 alone, and as a label 255 does not count; give `mask > 0` if 255 is the class"
        raise UnusableMaskError(message)
    target = torch.stack([labels == label for label in range(classes)]).to(torch.float32)
    return target, None if bool(counted.all()) else counted


def _same_keys(one: Block, other: Block) -> bool:
    """Whether two blocks project embeddings to the same keys."""
    return one.to_k is other.to_k or not differ(fingerprint(one.to_k), fingerprint(other.to_k))
