import pytest

from experiments.bundled import MODEL
from experiments.evaluation.backends.library import LibraryBackend, library
from experiments.evaluation.datasets import sets_of
from experiments.evaluation.subjects import Subject
from experiments.evaluation.world import world_of

__all__ = ["MODEL"]
WORLD = world_of(MODEL)
SETS = sets_of(WORLD)
CLASSES = tuple(one.name for one in WORLD.vocabulary)
CLEAR = "car"
"""A class that the first image of every set shows clearly."""


@pytest.fixture(scope="session")
def backend() -> LibraryBackend:
    """The bundled model in this process."""
    return library(MODEL, tuple((one.name, one.word) for one in WORLD.vocabulary))


@pytest.fixture(scope="session")
def scene(backend: LibraryBackend) -> Subject:
    """A generated scene of two things."""
    return backend.generate([SETS["coco-cap-tuning"].case(CLEAR, 0)])[0]
