"""The paper's own numbers (tables 1, 2, 4 and 5), to be printed beside ours: mIoU in %."""

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
    "DatasetDM": (80.3, 80.6, 59.3, 60.5),
    "Grounded Diffusion": (62.1, 86.6, 50.2, 73.3),
}
"""Methods with modules of their own, which are not made again here."""
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
BEST_GRID = {"words": "16 on VOC-sim and 64 + 16 on COCO-cap", "tokens": "all on VOC-sim and 64 + 16 on COCO-cap"}
"""Of Table 5, in latent pixels of images of 512 pixels."""
BEST_ALONE = 16
"""The best single grid there, on both sets, with words and with tokens."""


def blocks(resolutions: Sequence[int]) -> dict[str, Four]:
    """Table 5 by this model's resolutions: 64, 32 and 16 of Stable Diffusion 1.5 are its highest, middle and lowest.

    A model with more or fewer than three has nothing to set beside them.
    """
    if len(resolutions) != 3:
        return {}
    names = [named_blocks(grids) for grids in grids_of(resolutions)]
    return {**dict(zip(names, _BLOCKS, strict=True)), "ovam": METHODS["ovam"]}


def of(four: Four, dataset: str, asked: str) -> float:
    """A row's number for a set, with words or with tokens."""
    return four[2 * ("voc-sim", "coco-cap").index(dataset) + (asked != "words")]


def difference(one: Four, other: Four, dataset: str, asked: str) -> float:
    """By how many points one row is above another."""
    return round(of(one, dataset, asked) - of(other, dataset, asked), 1)


def gain_of_tokens(four: Four, dataset: str) -> float:
    """By how many points tokens are above words."""
    return round(of(four, dataset, "tokens") - of(four, dataset, "words"), 1)
