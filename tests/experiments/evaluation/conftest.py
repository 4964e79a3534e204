from pathlib import Path

import pytest

from experiments.evaluation.datasets import DATASETS
from experiments.evaluation.images import Made
from experiments.evaluation.studios.in_process import LocalStudio, studio
from experiments.tinyworld.shapes import CLASS_NAMES

MODEL = Path("models/tiny")


@pytest.fixture(scope="session")
def artist() -> LocalStudio:
    """The bundled model in this process."""
    return studio(MODEL, tuple((kind, kind) for kind in CLASS_NAMES))


@pytest.fixture(scope="session")
def scene(artist: LocalStudio) -> Made:
    """A generated scene of two things, with both halves of its trace."""
    return artist.make([DATASETS["coco-cap-tuning"].case("house", 0)], both_halves=True)[0]
