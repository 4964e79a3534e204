"""Settings become a model's defaults where they are better everywhere, from results that are made up."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from contracts.schema.models import BestMethod
from experiments.evaluation.defaults import NotMeasuredError, adopt
from experiments.evaluation.report import page
from experiments.evaluation.settings import as_json, generated, key
from ovam.core.selection import Span

CARD = {"default_guidance_scale": 3.0, "word_defaults": {"method": "daam", "settings": {}}}
NO_WEIGHTS = hashlib.sha256().hexdigest()
PAPER, BEST = "ovam", "affinity 1"
Figures = Mapping[str, tuple[float, float, float]]  # of tuning, voc-sim and coco-cap, by key


def made_up(figures: Figures) -> dict[str, Any]:
    settings = generated((16, 8))
    scores = {
        name: {one.key: {"miou": {"value": figures.get(one.key, (0.2, 0.2, 0.2))[index]}} for one in settings}
        for index, name in enumerate(("voc-sim", "coco-cap"), start=1)
    }
    rows = {
        one.key: {
            "target": one.target,
            "method": as_json(one.at(0.44).method),
            "tuning": {"mean": figures.get(one.key, (0.2,))[0]},
        }
        for one in settings
    }
    return {"provenance": {"model sha256": NO_WEIGHTS}, "settings": {"generated": rows}, "scores": scores}


def adopted(folder: Path, figures: Figures, card: Mapping[str, Any] = CARD) -> dict[str, Any]:
    (folder / "scores.json").write_text(json.dumps(made_up(figures)))
    (folder / "ovam.json").write_text(json.dumps(card))
    adopt(folder, folder)
    return json.loads((folder / "ovam.json").read_text())


WORDS_AND_TOKENS = {
    key(PAPER, "words"): (0.4, 0.4, 0.4),
    key(BEST, "words"): (0.5, 0.45, 0.41),
    key(PAPER, "tokens"): (0.7, 0.7, 0.7),
    key(BEST, "tokens"): (0.8, 0.75, 0.69),
}


def test_what_is_better_everywhere_is_adopted_and_what_is_worse_on_one_set_is_not(tmp_path: Path) -> None:
    card = adopted(tmp_path, WORDS_AND_TOKENS)
    best = BestMethod.model_validate(card["word_defaults"])
    assert (best.method, set(best.settings.changes())) == ("ovam", {"refine", "threshold", "crf"})
    assert best.settings.changes()["threshold"].tau == 0.44
    assert best.settings.changes()["crf"] is None
    assert "token_defaults" not in card
    assert (card["default_guidance_scale"], card["default_self_attention"]) == (3.0, True)


def test_the_page_says_what_was_adopted_and_by_how_much_it_is_better(tmp_path: Path) -> None:
    adopted(tmp_path, WORDS_AND_TOKENS)
    text = page.defaults(page.read(tmp_path))
    assert "| word_defaults | affinity 1, words | +10.0 | +5.0 | +1.0 | adopted |" in text
    assert "| +10.0 | +5.0 | -1.0 | not adopted |" in text


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    card = adopted(tmp_path, WORDS_AND_TOKENS)
    assert adopted(tmp_path, WORDS_AND_TOKENS, card) == card


def test_settings_that_have_no_meaning_for_some_images_are_no_defaults(tmp_path: Path) -> None:
    figures = {key("first 20", "words"): (0.9,) * 3, key("blocks 16", "words"): (0.9,) * 3}
    assert "word_defaults" not in adopted(tmp_path, figures)


def test_without_results_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="evaluate"):
        adopt(tmp_path, tmp_path)


def test_results_of_other_weights_are_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(NotMeasuredError, match=f"is of weights {NO_WEIGHTS[:12]}"):
        adopted(tmp_path, WORDS_AND_TOKENS)


def test_the_second_half_of_the_evaluations_has_a_meaning_for_any_image(tmp_path: Path) -> None:
    card = adopted(tmp_path, {key("affinity 1, late", "words"): (0.9,) * 3})
    assert BestMethod.model_validate(card["word_defaults"]).settings.changes()["evaluations"] == Span(0.5)
