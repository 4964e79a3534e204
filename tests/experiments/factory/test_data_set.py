"""The data set of section 4.3: its captions, its files, its filters and its page."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from experiments import cli
from experiments.bundled import MODEL
from experiments.evaluation.backends.library import LibraryBackend
from experiments.evaluation.datasets import SEEDS_A_CLASS, SETS
from experiments.evaluation.defaults import NotMeasuredError
from experiments.evaluation.report import data_set
from experiments.evaluation.settings import Setting
from experiments.evaluation.work import Place
from experiments.factory import plan as making
from experiments.factory.cases import MOST, SET, cases
from experiments.factory.filtering import PRESETS, NoClipError, filters_of, reasons
from experiments.factory.making import clip_of, made, seen
from ovam import METHODS
from ovam.core.label_maps import read_indexed_png
from ovam.core.words import spans_of
from ovam.learning.initial import initial_tokens
from tests.experiments.evaluation.conftest import CLASSES, WORLD, backend  # noqa: F401 - a fixture
from tests.worker.test_appraisal import clip_folder  # noqa: F401 - a fixture

RESULTS = Path("experiments/results")


def line(area: int, name: str = "cat", **seen: object) -> dict[str, object]:
    whole = {"name": f"{name}-{area}", "class_name": name, "prompt": f"a {name}", "seed": 1, "size": 1000, "area": area}
    return whole | {"clear": True, "single_colour": False, "counts": [area // 2, area]} | seen


def test_captions_contain_the_class_and_every_other_one_says_it_alone() -> None:
    found = list(cases(WORLD, 3.0, range(80), CLASSES))
    assert [one.class_name for one in found[:20]] == list(CLASSES)
    assert all(spans_of(one.prompt, one.mention) for one in found)
    assert [bool(one.others) for one in found] == [False] * 20 + [True] * 20 + [False] * 20 + [True] * 20
    assert len({one.seed for one in found}) == 80


def test_seeds_of_the_data_set_are_beyond_all_others() -> None:
    assert all(one.first_seed + 20 * SEEDS_A_CLASS <= SET.first_seed for one in SETS)
    with pytest.raises(ValueError, match=r"--images is 20001; allowed: 20 .* to 20000"):
        making.check_images(MOST + 1, 20)


def test_images_and_masks_are_written_as_pascal_voc_has_them(
    tmp_path: Path,
    backend: LibraryBackend,  # noqa: F811
    clip_folder: Path,  # noqa: F811
) -> None:
    rows = initial_tokens(backend.pipeline, "car").tolist()
    learned = tmp_path / "tokens.jsonl"
    learned.write_text(json.dumps({"recipe": "tokens", "classes": ["car"], "rows": rows}))
    wanted = [replace(one, steps=3) for one in cases(WORLD, 3.0, (6, 7, 26), CLASSES)]
    place = Place(MODEL, tuple(backend.words.items()))
    text = made(place, wanted, Setting("daam", "tokens", METHODS["daam"].tokens), (learned,), tmp_path)
    lines = [json.loads(each) for each in text.splitlines()]
    assert [one["name"] for one in lines] == ["car-0000", "car-0001"], "no token of a cat was learned"
    for one in lines:
        labels = read_indexed_png((tmp_path / f"SegmentationClass/{one['name']}.png").read_bytes())
        assert set(np.unique(labels)) <= {0, 7}
        assert (labels == 7).sum() == one["area"]
        assert one["counts"][0] <= one["area"] <= one["counts"][1] <= one["size"] == labels.size
        with Image.open(tmp_path / f"JPEGImages/{one['name']}.jpg") as image:
            assert image.size == labels.shape == (128, 128)
    seen_lines = [json.loads(each) for each in seen(lines, {"car": "car"}, tmp_path, str(clip_folder)).splitlines()]
    assert [one["name"] for one in seen_lines] == ["car-0000", "car-0001"]
    with Image.open(tmp_path / "JPEGImages/car-0000.jpg") as image:
        texts = ["A photograph of a car", "a car", "not a car"]
        assert clip_of(str(clip_folder)).cosines(np.asarray(image), texts) == (seen_lines[0]["clip"], seen_lines[0]["clip_scale"])


def test_another_clip_looks_at_the_same_images_again(tmp_path: Path, clip_folder: Path) -> None:  # noqa: F811
    setting = making.setting_of(RESULTS, MODEL, "ovam")
    without, with_one = (making.Plan(MODEL, tmp_path, setting, 30, clip) for clip in ("", str(clip_folder)))
    assert without.looking() == []
    assert without.folder == with_one.folder
    (first, second), made_first = with_one.looking(), with_one.making()[0].path
    assert [one.path.name for one in with_one.making()] == [first.path.name, second.path.name] == ["0-20.jsonl", "20-30.jsonl"]
    weights = next(clip_folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    changed = making.Plan(MODEL, tmp_path, setting, 30, str(clip_folder))
    assert changed.looking()[0].path != first.path
    assert changed.making()[0].path == made_first


def test_filters_reject_by_area_and_by_the_lowest_scores_of_each_class() -> None:
    lines = [line(area) for area in (49, 50, 500, 950, 951)]
    assert reasons(lines, filters_of("paper", clip=False)) == ["area", None, None, None, "area"]
    many = [line(100 + k, clip=[k / 10, k / 10, 0.4], clip_scale=100.0) for k in range(10)]
    many += [line(200, "dog", clip=[0.01, 0.9, 0.1], clip_scale=100.0)]
    assert reasons(many, filters_of("paper", clip=True)) == ["clip"] * 3 + [None] * 8
    found = reasons(many, filters_of("published-code", clip=True))
    assert found == ["clip"] * 2 + [None] * 9, "a quarter of ten is two; of one, and of so few areas, none"
    single = [line(area, single_colour=area == 120) for area in range(100, 140)]
    why = reasons(single, filters_of("published-code", clip=False))
    assert [one["area"] for one, reason in zip(single, why, strict=True) if reason == "area"] == [100, 139]
    assert why[20] == "single-colour"


def test_a_filter_by_clip_needs_images_that_clip_has_seen() -> None:
    with pytest.raises(NoClipError, match="cat-100 was seen by no CLIP"):
        reasons([line(100)], filters_of("paper", clip=True))


def test_lists_figures_and_page_tell_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making.Plan, "lines", lambda _: [line(10, "dog"), *(line(area) for area in (40, 400, 600))])
    monkeypatch.setattr(making.Plan, "folder", tmp_path)
    plan = making.Plan(MODEL, tmp_path, making.setting_of(RESULTS, MODEL, "ovam"), 20)
    found = making.conclude(plan)
    lists = {path.stem: path.read_text().split() for path in (tmp_path / making.LISTS).iterdir()}
    assert lists == {"all": ["dog-10", "cat-40", "cat-400", "cat-600"], "paper": ["cat-400", "cat-600"],
                     "published-code": lists["published-code"]}  # fmt: skip
    assert found["before"]["images"] == 4
    assert found["presets"]["paper"]["by class"] == {"dog": {"area": 1}, "cat": {"area": 1, "accepted": 2}}
    source = {"command": "dataset", "commit": "0", "model": "models/world", "model sha256": "1"}
    text = data_set.page({"provenance": source, **found})
    assert "| `paper`, here | 4 | 2 | off | 2 | 50.0 % |" in text
    assert "| 20000 | not told | 6000 (30 %) | 13484 | 67.4 % |" in text
    assert all(f"`{name}`" in text for name in PRESETS)


def test_a_way_to_masks_that_was_not_measured_is_refused() -> None:
    with pytest.raises(NotMeasuredError, match="no 'magic' of tokens; allowed: daam, "):
        making.setting_of(RESULTS, MODEL, "magic")
    answer = CliRunner().invoke(cli.app, ["dataset", "--images", "3"])
    assert answer.exit_code == 1
    assert answer.stderr == "--images is 3; allowed: 20 (one of each class) to 20000\n"
