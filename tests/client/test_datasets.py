"""Data sets by the clients and by `ovam dataset`, against a real gateway and a worker that draws squares."""

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from redis.asyncio import Redis
from typer.testing import CliRunner

from contracts.state.store import ArtifactStore
from launcher.cli import app
from ovam_client import AsyncClient, Client, DatasetError, InvalidRequestError, UnexpectedAnswerError
from ovam_client.datasets import unpacked
from service.datasets import driver
from tests.client.conftest import Line
from tests.service.drawing_worker import DrawingWorker
from tests.service.in_test_worker import card
from tests.service.test_datasets import drawing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(driver, "LOOK", 0.05)
    with structlog.testing.capture_logs():  # the gateway runs in this process, and writes nothing to what a command prints to
        yield


@pytest.fixture
async def busy(redis: Redis, store_url: str) -> AsyncIterator[DrawingWorker]:
    worker = DrawingWorker(redis, ArtifactStore.at(store_url))
    await worker.publish(card())
    async with drawing(worker):
        yield worker


@pytest.mark.usefixtures("busy")
async def test_a_data_set_is_made_followed_and_exported(client: AsyncClient, tmp_path: Path) -> None:
    seen: list[int] = []
    prompts = ["a car", {"prompt": "a lorry", "custom_id": "second", "classes": ["car"], "seed": 7}]
    found = await client.datasets.create(["car"], prompts, key="k", filters={"single_colour": True})
    await found.wait(lambda counts: seen.append(counts.done))
    assert (found.state, found.counts.accepted, seen[-1]) == ("succeeded", 2, 2)
    assert [each.id async for each in client.datasets.list()] == [found.id]
    folder = await found.export(tmp_path / "cars", "voc", split=0.0, rest=255)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"second.png", "000000.png", "datasheet.json", "contact-sheet.png"} <= names
    with pytest.raises(FileExistsError, match="not empty"):
        await found.export(folder)
    await found.delete()


@pytest.mark.usefixtures("busy")
async def test_lines_that_are_wrong_are_an_error_with_fields(client: AsyncClient) -> None:
    with pytest.raises(InvalidRequestError, match="line 2: there is no class 'dog'") as caught:
        await client.datasets.create(["car"], [{"prompt": "a car"}, {"prompt": "a dog", "classes": ["dog"]}])
    assert [(each.field, each.value) for each in caught.value.errors] == [("jsonl.2.classes", "dog")]


@pytest.mark.usefixtures("busy")
async def test_what_was_canceled_is_an_error_of_the_wait(url: str) -> None:
    def story() -> None:
        with Client(url) as client:
            found = client.datasets.create(["car"], templates=["a {class}"], images_per_prompt=1000)
            assert found.pause().resume().cancel().final
            with pytest.raises(DatasetError, match="canceled"):
                client.datasets.get(found.id).wait()

    await asyncio.to_thread(story)


@pytest.mark.usefixtures("busy")
async def test_an_export_that_breaks_is_fetched_again(line: tuple[Line, str], tmp_path: Path) -> None:
    carried, url = line
    async with AsyncClient(url) as client:
        found = await (await client.datasets.create(["car"], ["a car"])).wait()
    async with AsyncClient(url) as client:
        carried.faults = ["lose", "refuse"]  # of the two connections that come next; the first is for `get`
        path = await (await client.datasets.get(found.id)).export(tmp_path / "cars.tar")
    with tarfile.open(path) as tar:
        assert tar.getnames()[-1] == "datasheet.json"
    assert hidden(tmp_path) == []


def hidden(folder: Path) -> list[Path]:
    """What is left of files that were not finished."""
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_archive_without_its_end_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "half.tar", "w") as tar:
        tar.add(__file__, "images/1.png")
    with pytest.raises(UnexpectedAnswerError, match="not whole"):
        unpacked(tmp_path / "half.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("busy")
async def test_the_commands_make_show_and_export(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVAM_URL", url)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a car", "custom_id": "one"}\n\n{"prompt": "a red car"}\n')

    async def ovam(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["dataset", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    made = await ovam(
        "make", "car=7", "--jsonl", str(tmp_path / "prompts.jsonl"), "-n", "2", "--name", "cars", "--guidance", "2",
        "--negative", "a dog", "--scheduler", "EulerDiscreteScheduler", "--clip-skip", "0", "--wait", "--json",
    )  # fmt: skip
    record = json.loads(made)
    assert (record["state"], record["counts"]["accepted"], record["request"]["classes"][0]["label"]) == ("succeeded", 4, 7)
    made = record["request"]["generation"]
    told = (made["guidance_scale"], made["negative_prompt"], made["scheduler"], made["clip_skip"])
    assert told == (2.0, "a dog", "EulerDiscreteScheduler", 0)
    assert (await ovam("list")).split("\t")[2:] == ["succeeded", "4/4: 4 accepted", "cars"]
    assert json.loads(await ovam("show", record["id"]))["name"] == "cars"
    await ovam("export", record["id"], "--out", str(tmp_path / "out"), "--format", "yolo", "--split", "0")
    assert (tmp_path / "out" / "data.yaml").exists()
    wrong = await asyncio.to_thread(CliRunner().invoke, app, ["dataset", "make", "car=7=8", "-p", "a car"])
    assert wrong.exit_code == 2
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
    wrong = await asyncio.to_thread(CliRunner().invoke, app, ["dataset", "make", "car", "--jsonl", str(tmp_path / "latin.jsonl")])
    assert (wrong.exit_code, "not UTF-8" in wrong.stderr) == (2, True)
    unknown = await asyncio.to_thread(CliRunner().invoke, app, ["dataset", "make", "car", "-p", "a car", "-a", "style:0.5"])
    assert "`generation.adapters.0.name` is 'style'" in unknown.output
    failed = await asyncio.to_thread(CliRunner().invoke, app, ["dataset", "pause", record["id"]])
    assert failed.exit_code == 1


@pytest.mark.usefixtures("busy")
async def test_a_data_set_is_written_to_another_store_past_the_gateway(
    url: str, redis_url: str, store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with AsyncClient(url) as client:
        found = await (await client.datasets.create(["car"], ["a car", "a red car"])).wait()
        folder = await found.export(tmp_path / "by-gateway", "voc", rest="255")
    monkeypatch.setenv("OVAM_REDIS_URL", redis_url)
    monkeypatch.setenv("OVAM_STORE_URL", store_url)

    async def exported(to: str, dataset: str = found.id) -> tuple[int, str]:
        asked = ["store", "export", dataset, "--to", to, "--format", "voc", "--rest", "255"]
        result = await asyncio.to_thread(CliRunner().invoke, app, asked)
        return result.exit_code, result.output

    place = f"file://{tmp_path}/by-store"
    code, said = await exported(place)
    assert (code, f"files are written to {place}" in said) == (0, True), said
    assert contents(tmp_path / "by-store") == contents(folder)
    assert (await exported(place))[0] == 1, "there is something"
    assert (await exported("elsewhere"))[0] == 2
    assert (await exported(f"file://{tmp_path}/none", "0" * 26))[0] == 1


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
