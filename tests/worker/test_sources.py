"""A model that is not where its source says is reported in the words of whoever has to repair it."""

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError

from worker import sources
from worker.sources import INDEX, index_of


def test_a_folders_index_is_its_own(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("{}")
    assert index_of(str(tmp_path)) == tmp_path / INDEX


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^the folder '.*' holds no pipeline \(no model_index.json\)$"):
        index_of(str(tmp_path))


@pytest.mark.parametrize("source", ["/nowhere", "a b c", "x/y/z"])
def test_what_is_neither_a_folder_nor_an_id_is_named(source: str) -> None:
    with pytest.raises(OSError, match=rf"^there is no folder '{source}', and it is not a hub id"):
        index_of(source)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(OSError, match=r"^there is no folder '.*/model.safetensors'"):
        index_of(str(tmp_path / "model.safetensors"))


def test_an_id_that_is_not_cached_cannot_be_had_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"^'no-such/model' is not in the local Hugging Face cache, and .* \(offline\)$"):
        index_of("no-such/model")


def test_an_id_that_is_cached_is_found_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = "0123456789" * 4
    folder = tmp_path / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / INDEX).write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert index_of("owner/name").read_text() == "{}"


ANSWERS = {
    GatedRepoError: r"^the hub gives 'owner/name' only to accounts that accepted its terms",
    RepositoryNotFoundError: r"^the hub has no model 'owner/name', or it is private",
    RemoteEntryNotFoundError: r"^'owner/name' on the hub is not a diffusers pipeline",
    HfHubHTTPError: r"^the hub does not give 'owner/name': bad gateway",
}


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_what_the_hub_refuses_is_told_with_its_reason(kind: type[HfHubHTTPError], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> str:
        raise kind("bad gateway", response=httpx2.Response(502, request=httpx2.Request("HEAD", "http://hub")))

    monkeypatch.setattr(sources, "hf_hub_download", refuse)
    with pytest.raises(OSError, match=ANSWERS[kind]):
        index_of("owner/name")
