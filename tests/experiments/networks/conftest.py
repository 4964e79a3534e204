from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovam.core.label_maps import indexed_png


def voc(top: Path, lists: dict[str, list[str]]) -> Path:
    """A miniature of Pascal VOC's folder: red cars (7) and blue trains (19), images of several sizes."""
    rng = np.random.default_rng(0)
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (top / folder).mkdir(parents=True, exist_ok=True)
    for listed, names in lists.items():
        (top / f"ImageSets/Segmentation/{listed}.txt").write_text("".join(f"{name}\n" for name in names))
        for number, name in enumerate(names):
            labels = np.zeros((40 + 8 * number, 56), np.uint8)
            labels[8:30, 10:40] = 7 if number % 2 else 19
            labels[8:10, 10:40] = 255
            image = np.where((labels == 7)[..., None], (220, 30, 30), (90, 120, 90))
            image = np.where((labels == 19)[..., None], (30, 30, 220), image) + rng.integers(0, 20, (*labels.shape, 1))
            Image.fromarray(image.astype(np.uint8)).save(top / f"JPEGImages/{name}.jpg")
            (top / f"SegmentationClass/{name}.png").write_bytes(indexed_png(labels))
    return top


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """A VOCdevkit of one year."""
    voc(tmp_path / "VOCdevkit/VOC2012", {"train": ["a", "b", "c", "d"], "val": ["e", "f"]})
    return tmp_path / "VOCdevkit"


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    """A data set as the service exports it."""
    return voc(tmp_path / "synthetic", {"train": ["s1", "s2", "s3"]})
