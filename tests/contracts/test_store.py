"""The artifact store keeps its promises on a local folder, in memory and on S3."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

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


async def test_deleting_a_folder_leaves_its_neighbours(store: ArtifactStore) -> None:
    await store.commit(JOB, 1, FILES)
    await store.commit(JOB, 2, FILES[:1])
    assert await store.delete_folder(f"jobs/{JOB}/1") == 3
    assert await store.get(f"jobs/{JOB}/1/a.png") is None
    assert await store.get(f"jobs/{JOB}/2/a.png") == b"picture"
    assert await store.delete_folder(f"jobs/{JOB}/1") == 0


async def test_what_is_not_there_is_none(store: ArtifactStore) -> None:
    assert await store.get("jobs/none") is None
    await store.delete("jobs/none")


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
