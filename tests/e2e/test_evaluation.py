"""The evaluation through the service comes to what it comes to in process."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.evaluation import over_http, work
from experiments.evaluation.datasets import DATASETS
from experiments.evaluation.lines import Line, counts_of
from experiments.evaluation.over_http import Address
from experiments.evaluation.recipes import PUBLISHED_RECIPE, RECIPES
from experiments.evaluation.settings import Setting, quick
from ovam import Method

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
MODEL, KIND = Path("models/tiny"), "car"
CASES = [DATASETS[name].case(KIND, 0) for name in ("voc-sim-tuning", "coco-cap-tuning")]
SETTINGS = {"generated": quick()}
CLOSE = 0.02  # of IoU: the service keeps traces in half precision


def lines(text: str) -> list[Line]:
    return [json.loads(line) for line in text.splitlines()]


def ious(key: str, text: str) -> np.ndarray:
    counts, _ = counts_of(key, lines(text))
    assert counts.size
    return counts[..., 0] / counts[..., 1]


@pytest.fixture(scope="module")
def address(service_url: str) -> Address:
    return Address(service_url, MODEL.name)


def test_masks_of_words_and_of_tokens_overlap_with_the_truth_as_in_process(address: Address, tmp_path: Path) -> None:
    here, there = (tmp_path / "here.jsonl",), (tmp_path / "there.jsonl",)
    here[0].write_text(work.class_tokens(MODEL, KIND, [RECIPES[PUBLISHED_RECIPE]]))
    there[0].write_text(over_http.class_tokens(address, KIND, [RECIPES[PUBLISHED_RECIPE]]))
    ours = work.images(MODEL, CASES, SETTINGS, here, sweep=False)
    theirs = over_http.images(address, CASES, SETTINGS, there, sweep=False)
    assert [line["clear"] for line in lines(ours)] == [line["clear"] for line in lines(theirs)]
    for setting in quick():
        assert np.allclose(ious(setting.key, ours), ious(setting.key, theirs), atol=CLOSE), setting.key


def test_a_sweep_asks_for_every_threshold(address: Address) -> None:
    settings = {"generated": (Setting("daam", "words", Method("plain")),)}
    ours = work.images(MODEL, CASES[:1], settings, (), sweep=True)
    theirs = over_http.images(address, CASES[:1], settings, (), sweep=True)
    assert np.allclose(ious("daam | words", ours), ious("daam | words", theirs), atol=CLOSE)
