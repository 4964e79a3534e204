"""The paper's own numbers (tables 1, 2, 4 and 5), to set beside ours: mIoU in %."""

from collections.abc import Sequence

from experiments.evaluation.settings import grids_of, named_blocks

Four = tuple[float, float, float, float]
"""VOC-sim with words and with optimised tokens, COCO-cap with words and with optimised tokens."""

METHODS: dict[str, Four] = {
    "daam": (66.2, 79.7, 48.4, 66.1),
    "attn2mask": (68.7, 81.9, 55.0, 66.1),
    "ovam": (70.4, 82.5, 58.2, 69.2),
}
TRAINED: dict[str, Four] = {
    "datasetdm-published": (80.3, 80.6, 59.3, 60.5),
    "grounded-diffusion": (62.1, 86.6, 50.2, 73.3),
}
"""Methods with networks of their own."""
POST_PROCESSING: dict[str, Four] = {
    "daam": METHODS["daam"],
    "self-attention": (67.7, 80.0, 55.0, 66.3),
    "dCRF": (68.4, 81.9, 50.7, 69.0),
    "ovam": METHODS["ovam"],
}
"""Table 4: without post-processing OVAM's heatmap is DAAM's, with all of it it is OVAM."""
_BLOCKS: tuple[Four, ...] = (
    (40.2, 43.5, 26.2, 24.4),
    (30.5, 71.7, 16.1, 56.0),
    (71.5, 78.9, 57.0, 68.2),
    (50.5, 74.9, 37.2, 53.6),
    (70.5, 82.2, 60.3, 70.3),
    (67.0, 80.7, 53.5, 68.2),
)
_ALONE_64, _ALONE_16, _BOTH = _BLOCKS[0], _BLOCKS[2], _BLOCKS[4]
BEST_GRID = {"words": "16 on VOC-sim and 64 + 16 on COCO-cap", "tokens": "all on VOC-sim and 64 + 16 on COCO-cap"}
"""Of Table 5, in latent pixels of images of 512 pixels."""

CLASSES = ("aeroplane", "bicycle", "boat", "bus", "car", "cat", "cow", "dog", "motorbike", "person")
"""Those of Table 2's columns, by Pascal VOC's names."""
BY_CLASS: dict[tuple[str, str], tuple[float, ...]] = {
    ("daam", "words"): (30.6, 33.8, 31.9, 82.6, 42.8, 83.0, 64.6, 77.9, 44.6, 22.7),
    ("daam", "tokens"): (59.1, 67.2, 61.2, 92.8, 63.4, 83.6, 77.9, 79.0, 72.4, 56.9),
    ("attn2mask", "words"): (49.3, 56.0, 45.5, 85.8, 48.2, 72.6, 71.0, 69.4, 62.4, 20.7),
    ("attn2mask", "tokens"): (59.3, 67.2, 61.4, 92.9, 63.1, 83.6, 77.9, 78.9, 72.5, 56.9),
    ("ovam", "words"): (65.1, 64.3, 51.9, 84.9, 47.5, 67.9, 76.5, 65.8, 69.4, 19.7),
    ("ovam", "tokens"): (67.8, 68.4, 64.6, 94.5, 63.2, 87.6, 82.4, 81.9, 74.2, 60.9),
    ("datasetdm-published", "words"): (74.1, 25.7, 71.3, 91.4, 51.9, 76.2, 90.1, 71.7, 56.4, 52.2),
    ("datasetdm-published", "tokens"): (73.7, 26.7, 71.2, 95.1, 53.5, 81.2, 89.9, 80.8, 67.0, 53.5),
    ("grounded-diffusion", "words"): (84.6, 54.9, 30.8, 81.4, 25.1, 87.3, 73.7, 84.4, 49.8, 51.8),
    ("grounded-diffusion", "tokens"): (88.3, 75.9, 67.1, 95.0, 54.3, 89.0, 78.1, 85.5, 85.6, 79.1),
}
"""Table 2: the IoU of classes on COCO-cap, by method and target."""


def blocks(resolutions: Sequence[int]) -> dict[str, Four]:
    """Table 5 by this model's resolutions: 64, 32 and 16 of Stable Diffusion 1.5 are its highest, middle and lowest.

    A model with two has its highest beside 64, its lowest beside 16, and both beside 64 + 16; one with another number has
    nothing to set beside them.
    """
    names = [named_blocks(grids) for grids in grids_of(resolutions)]
    match len(resolutions):
        case 3:
            return {**dict(zip(names, _BLOCKS, strict=True)), "ovam": METHODS["ovam"]}
        case 2:
            return {**dict(zip(names, (_ALONE_64, _ALONE_16), strict=True)), "ovam": _BOTH}
        case _:
            return {}


def of_class(method: str, target: str, class_name: str) -> float | None:
    """A class's IoU in Table 2, if it has it."""
    row = BY_CLASS.get((method, "words" if target == "words" else "tokens"))
    return None if row is None or class_name not in CLASSES else row[CLASSES.index(class_name)]


def of(four: Four, dataset: str, target: str) -> float:
    """A row's number for a set, with words or with tokens."""
    return four[2 * ("voc-sim", "coco-cap").index(dataset) + (target != "words")]


def difference(one: Four, other: Four, dataset: str, target: str) -> float:
    """By how many points one row is above another."""
    return round(of(one, dataset, target) - of(other, dataset, target), 1)


def gain_of_tokens(four: Four, dataset: str) -> float:
    """By how many points tokens are above words."""
    return round(of(four, dataset, "tokens") - of(four, dataset, "words"), 1)
