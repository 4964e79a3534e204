"""The artifact store keeps its promises on a local folder, in memory and on S3."""

import asyncio
import hashlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from contracts.schema.errors import Code, ServiceError
from contracts.state import store as module
from contracts.state.store import ArtifactStore, File

JOB = "01k00000000000000000000000"
FILES = [File("a.png", "image/png", b"picture"), File("b.npy", "application/octet-stream", bytes(range(256)) * 5000)]


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket of a real S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="artifacts")
        yield "s3://artifacts/some/prefix"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """An empty store of each kind."""
    match request.param:
        case "file":
            return ArtifactStore.at(f"file://{tmp_path}/store")
        case "memory":
            return ArtifactStore.at("memory:///")
        case _:
            url = request.getfixturevalue("s3")
            return ArtifactStore.at(f"{url}/{os.urandom(4).hex()}")


async def test_several_ranges_and_the_start_of_an_object_are_read(store: ArtifactStore) -> None:
    await store.put("some/object", bytes(range(100)))
    assert await store.get_ranges("some/object", [(0, 3), (50, 52)]) == [bytes([0, 1, 2]), bytes([50, 51])]
    assert await store.get_start("some/object", 4) == (bytes(range(4)), 100)
    assert await store.get_start("some/object", 1000) == (bytes(range(100)), 100)
    await store.put("some/empty", b"")
    assert await store.get_start("some/empty", 4) == (b"", 0)
    assert await store.get_start("nowhere", 4) is None
    assert await store.get_ranges("nowhere", [(0, 1)]) is None
    assert [folder async for folder in store.folders_in("some")] == []
    await store.put("some/folder/object", b"x")
    assert [folder async for folder in store.folders_in("some")] == ["some/folder"]


async def test_what_is_committed_can_be_read_whole_and_in_part(store: ArtifactStore) -> None:
    artifacts = await store.commit(JOB, 1, FILES)
    for file in FILES:
        key = f"jobs/{JOB}/1/{file.name}"
        assert await store.get(key) == file.data
        assert await store.get_range(key, 2, 5) == file.data[2:5]
        assert artifacts[file.name].sha256 == hashlib.sha256(file.data).hexdigest()
        assert artifacts[file.name].size == len(file.data)
        assert artifacts[file.name].url == f"/v1/jobs/{JOB}/artifacts/{file.name}"
    assert await store.manifest(JOB, 1) == list(artifacts.values())


async def test_files_without_a_manifest_do_not_count(store: ArtifactStore) -> None:
    artifacts = [await store.write(JOB, 1, file) for file in FILES]
    assert await store.manifest(JOB, 1) == []
    await store.seal(JOB, 1, artifacts)
    assert await store.manifest(JOB, 1) == artifacts
    assert await store.manifest(JOB, 2) == []


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def test_where_the_disk_is_full_nothing_is_half_written(tmp_path: Path) -> None:
    store = ArtifactStore.at(f"file://{tmp_path}/store")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(FILES[1].data) // 2, most[1]))  # a write ends in the midst of the second file
    try:
        with pytest.raises(ServiceError) as failed:
            await store.commit(JOB, 1, FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert failed.value.code is Code.STORE_UNAVAILABLE
    assert await store.manifest(JOB, 1) == []
    assert names_in(tmp_path) <= {"a.png"}
    assert len(await store.commit(JOB, 1, FILES)) == 2


async def test_deleting_a_folder_leaves_its_neighbours(store: ArtifactStore) -> None:
    await store.commit(JOB, 1, FILES)
    await store.commit(JOB, 2, FILES[:1])
    assert await store.delete_folder(f"jobs/{JOB}/1") == 3
    assert await store.get(f"jobs/{JOB}/1/a.png") is None
    assert await store.get(f"jobs/{JOB}/2/a.png") == b"picture"
    assert await store.delete_folder(f"jobs/{JOB}/1") == 0


async def test_a_folder_goes_with_its_last_file(tmp_path: Path) -> None:
    store = ArtifactStore.at(f"file://{tmp_path}/store")
    await store.commit(JOB, 1, FILES)
    await store.commit(JOB, 2, FILES)
    await store.delete_folder(f"jobs/{JOB}/1")
    assert [path.name for path in (tmp_path / "store" / "jobs" / JOB).iterdir()] == ["2"]
    await store.delete_folder(f"jobs/{JOB}")
    assert list((tmp_path / "store").iterdir()) == []


async def test_what_is_not_there_is_none(store: ArtifactStore) -> None:
    assert await store.get("jobs/none") is None
    await store.delete("jobs/none")
    with pytest.raises(ServiceError) as caught:  # who reads a range has read what is there
        await store.get_range("jobs/none", 0, 1)
    assert caught.value.code is Code.STORE_UNAVAILABLE


async def test_what_is_deleted_is_gone_and_nothing_else(store: ArtifactStore) -> None:
    await store.commit(JOB, 1, FILES)
    await store.delete(f"jobs/{JOB}/1/a.png")
    assert [await store.get(f"jobs/{JOB}/1/{file.name}") for file in FILES] == [None, FILES[1].data]


@pytest.mark.parametrize("count", [0, 1, 20])
async def test_any_number_of_files_is_written_and_told_in_its_order(store: ArtifactStore, count: int) -> None:
    files = [File(f"{count - number}.txt", "text/plain", str(number).encode()) for number in range(count)]
    artifacts = await store.commit(JOB, 1, files)
    assert [artifact.name for artifact in await store.manifest(JOB, 1)] == [file.name for file in files]
    assert {artifact.sha256 for artifact in artifacts.values()} == {hashlib.sha256(file.data).hexdigest() for file in files}
    assert [await store.get(f"jobs/{JOB}/1/{file.name}") for file in files] == [file.data for file in files]


async def test_a_store_that_takes_writes_says_so_and_keeps_nothing(store: ArtifactStore) -> None:
    await store.probe()
    assert [key async for key in store.keys_below("")] == []


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactStore]:
    """An S3 that takes connections and says nothing."""
    monkeypatch.setattr(module, "READ_TIMEOUT", "1s")
    monkeypatch.setattr(module, "PROBE_WITHIN", 1.0)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "REGION": "us-east-1", "ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield ArtifactStore.at("s3://secret-bucket/prefix")


async def failing(store: ArtifactStore) -> dict[str, tuple[ServiceError, float]]:
    """How each way to use a store fails, and after how long (seconds)."""
    found = {}
    ways = {
        "put": store.put("x", b""),
        "get": store.get("x"),
        "get_range": store.get_range("x", 0, 1),
        "delete": store.delete("x"),
        "delete_folder": store.delete_folder("x"),
        "commit": store.commit(JOB, 1, FILES),
        "probe": store.probe(),
    }
    for name, way in ways.items():
        begun = time.monotonic()
        with pytest.raises(ServiceError) as caught:
            await way
        found[name] = caught.value, time.monotonic() - begun
    return found


async def test_a_store_that_hangs_fails_in_time_and_in_our_words(silent: ArtifactStore) -> None:
    for name, (error, seconds) in (await failing(silent)).items():
        assert error.code is Code.STORE_UNAVAILABLE, name
        assert "secret" not in error.detail, name
        assert "127.0.0.1" not in error.detail, name
        assert seconds < 20, name


async def test_a_bucket_that_is_not_there_and_a_server_that_refuses_are_failures_in_our_words(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del s3
    missing = ArtifactStore.at("s3://no-such-bucket/x")
    for way in (missing.put("x", b""), missing.commit(JOB, 1, FILES), missing.probe()):
        with pytest.raises(ServiceError, match="artifact store did not answer as it should"):
            await way
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for name, (error, seconds) in (await failing(ArtifactStore.at("s3://secret-bucket/x"))).items():
        assert error.code is Code.STORE_UNAVAILABLE, name
        assert seconds < 20, name


async def test_a_patient_reader_and_writer_wait_for_a_store_that_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store, tries = ArtifactStore.at(f"file://{folder}"), []
    patient = store.patiently(20, lambda: tries.append(None))
    folder.rmdir()
    folder.touch()
    with pytest.raises(ServiceError):  # patience is the copy's alone
        await store.put("a", b"a")
    assert not tries
    writing = asyncio.create_task(patient.put("a", b"a"))
    await asyncio.sleep(0.5)
    folder.unlink()
    folder.mkdir()
    await writing
    assert tries
    assert await patient.get("a") == b"a"


async def test_the_longest_pause_is_not_exceeded_however_often_a_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.02)
    assert len(await tries_of(tmp_path, patience=1)) > 8  # were pauses doubled without end, it would be 6


async def test_nobody_pauses_longer_than_patience_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 30)
    assert await tries_of(tmp_path, patience=20) == []


async def tries_of(folder: Path, patience: float) -> list[None]:
    """Write to a store that always fails, until patience ends; an entry for each new try."""
    store, tries = ArtifactStore.at(f"file://{folder}/store"), []
    (folder / "store").rmdir()
    (folder / "store").touch()
    with pytest.raises(ServiceError):
        await store.patiently(patience, lambda: tries.append(None)).put("a", b"a")
    return tries


async def test_patience_ends_when_the_work_is_no_longer_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = ArtifactStore.at(f"file://{folder}")
    folder.rmdir()
    folder.touch()

    def unwanted() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.patiently(3600, unwanted).put("a", b"a")
