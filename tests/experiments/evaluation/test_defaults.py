"""Settings become a model's defaults where they are better everywhere, from results that are made up."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.models import Choice
from experiments.evaluation.adopting import NotMeasuredError, adopt, effective
from experiments.evaluation.report import page
from experiments.evaluation.settings import Setting, generated, key

CARD = {
    "default_guidance_scale": 3.0,
    "word_defaults": {"method": "ovam", "refine": "none", "crf": False, "tau": 0.5, "normalize": "minmax"},
    "token_defaults": {"method": "ovam", "refine": "none", "crf": False, "tau": 0.5, "normalize": "minmax"},
}
NO_WEIGHTS = hashlib.sha256().hexdigest()
NOW, BEST = "half of the range", "affinity 1"
Figures = Mapping[str, tuple[float, float, float]]  # of tuning, voc-sim and coco-cap, by key


def made_up(figures: Figures) -> dict[str, Any]:
    def row(setting: Setting) -> dict[str, Any]:
        method = replace(setting.method, tau=0.44) if setting.tuned else setting.method
        tuning = {"mean": figures.get(setting.key, (0.2,))[0]}
        return {"asked": setting.asked, "half": setting.half, "method": method.settings(), "tuning": tuning}

    settings = generated((16, 8, 4))
    scores = {
        name: {one.key: {"miou": {"value": figures.get(one.key, (0.2, 0.2, 0.2))[index]}} for one in settings}
        for index, name in enumerate(("voc-sim", "coco-cap"), start=1)
    }
    rows = {one.key: row(one) for one in settings}
    return {"provenance": {"model sha256": NO_WEIGHTS}, "settings": {"generated": rows}, "scores": scores}


def adopted(folder: Path, figures: Figures, card: Mapping[str, Any] = CARD) -> dict[str, Any]:
    (folder / "scores.json").write_text(json.dumps(made_up(figures)))
    (folder / "ovam.json").write_text(json.dumps(card))
    adopt(folder, folder)
    return json.loads((folder / "ovam.json").read_text())


WORDS_AND_TOKENS = {
    key(NOW, "words"): (0.4, 0.4, 0.4),
    key(BEST, "words"): (0.5, 0.45, 0.41),
    key(NOW, "tokens"): (0.7, 0.7, 0.7),
    key(BEST, "tokens"): (0.8, 0.75, 0.69),
}


def test_what_is_better_everywhere_is_adopted_and_what_is_worse_on_one_set_is_not(tmp_path: Path) -> None:
    card = adopted(tmp_path, WORDS_AND_TOKENS)
    choice = Choice.model_validate(card["word_defaults"])
    assert (choice.refine, choice.tau, choice.normalize, choice.crf) == ("affinity", 0.44, "minmax", False)
    assert card["default_self_attention"] is True
    assert card["token_defaults"] == CARD["token_defaults"]
    assert card["default_guidance_scale"] == 3.0


def test_the_adopted_default_comes_to_the_settings_that_were_measured(tmp_path: Path) -> None:
    card = adopted(tmp_path, WORDS_AND_TOKENS)
    method = made_up({})["settings"]["generated"][key(BEST, "words")]["method"]
    assert effective(card, "word_defaults").items() <= method.items()


def test_the_page_says_what_changed_and_by_how_much(tmp_path: Path) -> None:
    adopted(tmp_path, WORDS_AND_TOKENS)
    text = page.defaults(page.read(tmp_path))
    assert "| word_defaults | half of the range, words | affinity 1, words | +10.0 | +5.0 | +1.0 | adopted |" in text
    assert "| +10.0 | +5.0 | -1.0 | left as it was |" in text


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    card = adopted(tmp_path, WORDS_AND_TOKENS)
    before = (tmp_path / "defaults.json").read_text()
    assert adopted(tmp_path, WORDS_AND_TOKENS, card) == card
    assert (tmp_path / "defaults.json").read_text() == before


def test_settings_that_have_no_meaning_for_some_images_are_no_defaults(tmp_path: Path) -> None:
    figures = {
        key(NOW, "words"): (0.4,) * 3,
        key("first 20", "words"): (0.9,) * 3,
        key("unconditional half", "words"): (0.9,) * 3,
    }
    assert adopted(tmp_path, figures) == CARD


def test_a_model_without_defaults_has_the_published_ones(tmp_path: Path) -> None:
    card = {"default_self_attention": True}
    figures = {key("ovam, published threshold", "words"): (0.4,) * 3, key("min-max", "words"): (0.5,) * 3}
    assert adopted(tmp_path, figures, card)["word_defaults"]["refine"] == "none"


def test_defaults_that_were_not_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="word_defaults"):
        adopted(tmp_path, {}, {"word_defaults": {"tau": 0.123}})


def test_without_results_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="evaluate"):
        adopt(tmp_path, tmp_path)


def test_results_of_other_weights_are_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(NotMeasuredError, match=f"is of weights {NO_WEIGHTS[:12]}"):
        adopted(tmp_path, WORDS_AND_TOKENS)
