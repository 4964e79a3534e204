import numpy as np
import pytest

from tests.golden import recipe

TOLERANCE = {"image": 0.01, "losses": 2e-3}  # other processors round otherwise; heatmaps lie in [0, 1]


@pytest.fixture(scope="module")
def now() -> dict[str, np.ndarray]:
    return recipe.results()


@pytest.mark.parametrize("name", ["image", *recipe.WORDS, "losses"])
def test_the_bundled_model_gives_what_it_gave_when_it_was_made(now: dict[str, np.ndarray], name: str) -> None:
    with np.load(recipe.FOLDER / "bundled.npz") as golden:
        assert now[name].shape == golden[name].shape
        assert np.abs(now[name] - golden[name]).mean() < TOLERANCE.get(name, 1e-3)


def test_the_bundled_model_fits_its_size_and_holds_no_pickle() -> None:
    files = [path for path in recipe.MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 50e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
