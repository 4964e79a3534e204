from pathlib import Path

import pytest

from experiments.evaluation.datasets import DATASETS
from experiments.evaluation.images import Made, Studio, studio

MODEL = Path("models/tiny")


@pytest.fixture(scope="session")
def artist() -> Studio:
    """The bundled model and the annotator."""
    return studio(MODEL)


@pytest.fixture(scope="session")
def scene(artist: Studio) -> Made:
    """A generated scene of two things, with both halves of its trace."""
    return artist.make([DATASETS["coco-cap-tuning"].case("house", 0)], both_halves=True)[0]
