"""A model is named by its folder or by its id on the hub, and results of others do not take the place of the bundled model's."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from experiments import cli
from experiments.evaluation.backends.models import UnknownModelError, folder_of, text_part
from experiments.evaluation.stages import Plan
from tests.experiments.evaluation.conftest import MODEL


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with the bundled model as somebody/world, and no way to the hub."""
    repository = tmp_path / "models--somebody--world"
    shutil.copytree(MODEL, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository / "snapshots" / "abc"


def test_an_id_of_the_hub_is_taken_from_its_cache(cached: Path) -> None:
    assert folder_of("somebody/world") == cached
    assert folder_of(str(MODEL)) == MODEL


@pytest.mark.parametrize("source", ["somebody/else", "no such folder", "a/b/c"])
@pytest.mark.usefixtures("cached")
def test_what_is_neither_a_folder_nor_an_id_is_named(source: str) -> None:
    with pytest.raises(UnknownModelError, match=f"the model '{source}' is neither a folder nor"):
        folder_of(source)
    answer = CliRunner().invoke(cli.app, ["evaluate", "--model", source])
    assert answer.exit_code == 1
    assert source in answer.stderr


def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"is a folder without model_index\.json"):
        folder_of(str(tmp_path))


def test_the_text_part_of_a_model_has_no_unet() -> None:
    assert text_part(MODEL).text_encoder is not None
    assert text_part(MODEL).unet is None


def test_results_go_beside_the_work_unless_they_are_the_bundled_models_own(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[Any, ...]] = []
    monkeypatch.setattr(cli, "through", lambda plan, processes: None)  # noqa: ARG005
    monkeypatch.setattr(cli, "conclude", lambda plan, *where: places.append((plan, *where)))
    for arguments in ([], ["--model", "somebody/world"], ["--model", "somebody/world", "--results", "r", "--docs", "d"]):
        answer = CliRunner().invoke(cli.app, ["evaluate", *arguments])
        assert answer.exit_code == 0, answer.output
    (_, *ours), (plan, *theirs), (_, *elsewhere) = places
    assert ours == [cli.RESULTS, cli.DOCS]
    assert isinstance(plan, Plan)
    assert (plan.model, plan.source) == (cached, "somebody/world")
    assert theirs == [plan.report / "json", plan.report]
    assert cli.WORK in plan.report.parents
    assert elsewhere == [Path("r"), Path("d")]
