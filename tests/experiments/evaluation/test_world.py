"""The world: classes, captions, annotators and real images; and the evaluation of an untrained model of it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from typer.testing import CliRunner

from experiments import cli
from experiments.cli import conclude
from experiments.evaluation import work
from experiments.evaluation import world as judging
from experiments.evaluation.backends.library import library
from experiments.evaluation.backends.models import guidance_scale_of, resolutions_of
from experiments.evaluation.datasets import sets_of
from experiments.evaluation.defaults import NotMeasuredError, adopt
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.recipes import REAL_RECIPES, RECIPES
from experiments.evaluation.run import everything
from experiments.evaluation.scales import Scale
from experiments.evaluation.settings import generated
from experiments.evaluation.stages import Plan
from experiments.evaluation.targets import WORDS
from experiments.evaluation.world import MARK, World, image_size, world_of
from experiments.world import atlas
from experiments.world.annotator import FIRST, Annotator, Unet
from experiments.world.atlas import AtlasError
from experiments.world.commands import plainly
from experiments.world.model import autoencoder, denoiser, text
from experiments.world.scene import SIZE
from ovam.core.words import spans_of
from ovam.learning.initial import initial_tokens
from tests.experiments.evaluation.conftest import MODEL

OURS = World()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of two resolutions."""
    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("model"), text.new_tokenizer()
    StableDiffusionPipeline(
        vae=autoencoder.new_vae(),
        text_encoder=text.new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=denoiser.new_unet(),
        scheduler=denoiser.new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)
    (folder / MARK).write_text(json.dumps({"atlas": atlas.load().version}))
    return folder


def test_the_bundled_model_is_of_todays_atlas_and_draws_its_scenes(model: Path) -> None:
    assert json.loads((MODEL / MARK).read_text())["atlas"] == atlas.load().version
    assert image_size(MODEL) == image_size(model) == SIZE
    assert world_of(model) == OURS


def test_a_model_of_another_atlas_is_refused(model: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text((model / part / "config.json").read_text())
    (tmp_path / MARK).write_text(json.dumps({"atlas": "of long ago"}))
    with pytest.raises(AtlasError, match="of long ago"):
        world_of(tmp_path)


def test_the_twenty_classes_are_pascal_vocs() -> None:
    names = [one.name for one in OURS.vocabulary]
    assert len(names) == 20
    assert (names[0], names[-1]) == ("aeroplane", "tvmonitor")
    assert {one.word for one in OURS.vocabulary} >= {"dining table", "potted plant", "television"}


def test_a_caption_mentions_the_class_and_something_else_and_every_other_one_by_a_synonym() -> None:
    cases = sets_of(OURS)["coco-cap"].cases(4, [one.name for one in OURS.vocabulary[:8]])
    for case in cases:
        assert spans_of(case.prompt, case.mention)
        assert case.others
        assert all(spans_of(case.prompt, word) for word in case.others)
    plain = sum(case.mention == case.word for case in cases)
    assert len(cases) // 2 <= plain <= 0.7 * len(cases)
    assert sets_of(OURS)["coco-cap"].cases(4, [one.name for one in OURS.vocabulary[:8]]) == cases


@pytest.mark.parametrize("things", [1, 2])
def test_a_real_image_shows_the_class_and_the_words_of_others_are_known(things: int) -> None:
    for number, one in enumerate(OURS.vocabulary[:8]):
        real = OURS.real_image(one.name, number, things)
        assert (real.labels == OURS.label(one.name)).any()
        assert len(real.others) == things - 1
        assert np.array_equal(real.image, OURS.real_image(one.name, number, things).image)


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for annotators, instead of the bundled ones'."""
    monkeypatch.setattr(judging, "MODELS", tmp_path)
    judging.annotator.cache_clear()
    yield tmp_path
    judging.annotator.cache_clear()


def untrained(judges: Path) -> Path:
    """An untrained annotator's file."""
    file = judges / f"{FIRST}.safetensors"
    Annotator(Unet(len(atlas.load().classes) + 1)).save(file, FIRST)
    return file


def test_annotators_that_are_missing_damaged_or_of_another_atlas_end_an_evaluation_in_a_line(judges: Path) -> None:
    def said() -> str:
        answer = CliRunner().invoke(cli.app, ["quick", "--model", str(MODEL), "--work", str(judges / "work")])
        assert answer.exit_code == 1
        (line,) = answer.stderr.splitlines()
        return line

    assert OURS.annotator_errors() == {}
    assert "unet.safetensors is missing: run experiments.world.annotator_training" in said()
    file = untrained(judges)
    whole = file.read_bytes()
    file.write_bytes(whole[:500])
    assert "unet.safetensors is damaged" in said()
    file.write_bytes(whole.replace(atlas.load().version.encode(), b"0123456789ab"))
    assert "version 0123456789ab of the atlas" in said()


def test_a_model_of_another_atlas_ends_an_evaluation_in_a_line(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "old")
    (tmp_path / "old" / MARK).write_text(json.dumps({"atlas": "of long ago"}))
    answer = CliRunner().invoke(cli.app, ["evaluate", "--model", str(tmp_path / "old")])
    assert (answer.exit_code, len(answer.stderr.splitlines())) == (1, 1)
    assert "of long ago" in answer.stderr


@pytest.mark.parametrize("ask", [OURS.label, lambda name: OURS.caption(name, 0), lambda name: OURS.real_image(name, 0, 1)])
def test_an_unknown_class_is_refused_by_name(ask: Callable[[str], object]) -> None:
    with pytest.raises(AtlasError, match="no class 'unicorn'; it has aeroplane"):
        ask("unicorn")


def test_a_command_ends_in_a_line_when_the_atlas_is_at_fault() -> None:
    with pytest.raises(SystemExit, match="no class 'unicorn'"):
        plainly(lambda: OURS.label("unicorn"))


def test_a_model_that_draws_nothing_clear_is_evaluated_to_the_end(model: Path, judges: Path, tmp_path: Path) -> None:
    untrained(judges)
    scale = Scale({"voc-sim-tuning": 1, "voc-sim": 1}, everything=False, classes=("cat",), targets=(WORDS,))
    plan = Plan(model, tmp_path / "work", scale)
    everything(plan)
    conclude(plan, tmp_path / "json", tmp_path / "docs")
    assert quick_rows(plan) == [{"clear": 0, "of": 1, "set": "voc-sim"}]
    assert "| prompted class found on voc-sim | at least 0.85 | 0.00 | missed |" in (tmp_path / "docs/results.md").read_text()
    with pytest.raises(NotMeasuredError, match="no image of the tuning sets shows a clear object"):
        adopt(tmp_path / "json", model)


def test_every_setting_can_be_measured_on_a_model_of_two_resolutions(model: Path) -> None:
    world = world_of(model)
    backend = library(model, tuple((one.name, one.word) for one in world.vocabulary))
    assert (resolutions_of(model), guidance_scale_of(model)) == ((16, 8), 3.0)
    names = list(backend.words)
    fit = {"rows": initial_tokens(backend.pipeline, *backend.words.values()).tolist(), "classes": names}
    learned = {(recipe, name): fit for recipe in (*RECIPES, *REAL_RECIPES) for name in names}
    settings = [one for one in generated(resolutions_of(model)) if one.method.evaluations in ("all", 0.5)]  # a real image has 9
    (subject,) = backend.generate([sets_of(world)["real-scenes"].case("cat", 0)])
    line = work.line(backend, subject, settings, learned, sweep=False)
    assert set(line["counts"]) == {one.key for one in settings}
    assert line["heat"]
