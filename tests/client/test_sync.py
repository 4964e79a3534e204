"""What the client that blocks does by itself, and what a program gets that installs the client alone."""

import asyncio
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco

from ovam_client import Client, Patience, __version__
from ovam_client.answers import Rle
from ovam_client.pictures import decoded, file_of, mask_of
from tests.packaging.files import ROOT
from tests.service.in_test_worker import InTestWorker
from tests.wheels import wheel_of

WAITS = """
import sys, ovam_client
with ovam_client.Client(sys.argv[1]) as client:
    job = client.generate("a red car")
    print(job.id, flush=True)
    job.wait()
"""
ALONE = """
import sys, ovam_client
heavy = {"torch", "contracts", "ovam", "service", "cv2", "fastapi", "redis", "typer"} & set(sys.modules)
print(ovam_client.__file__, ovam_client.__version__, sorted(heavy), ovam_client.Client("https://example.org"))
"""


async def test_ctrl_c_cancels_the_job(url: str, worker: InTestWorker) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WAITS, url, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    job_id = (await process.stdout.readline()).decode().strip()
    await asyncio.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == -signal.SIGINT, errors
    assert (await worker.ledger.get(job_id)).state == "canceled"


async def test_a_job_is_waited_for_without_a_loop(url: str, worker: InTestWorker) -> None:
    seen: list[int] = []

    def story() -> tuple[str, int]:
        with Client(url, patience=Patience(away=3)) as client:
            job = client.generate("a red car").wait(lambda progress: seen.append(progress.done))
            return job.state, len(list(client.jobs.list()))

    asking = asyncio.create_task(asyncio.to_thread(story))
    while not (found := await worker.ledger.newest(None, 1))[0]:
        await asyncio.sleep(0.02)
    (record,) = found[0]
    await worker.begin(record.id)
    await worker.step(record.id, 2)
    await worker.end(record.id)
    assert await asking == ("succeeded", 1)
    assert seen == [2]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_run_lengths_are_read_as_cocos_own_tools_read_them(mask: np.ndarray) -> None:
    written = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(decoded(Rle(size=written["size"], counts=written["counts"].decode())), mask)


def test_masks_of_cocos_tools_are_taken_with_their_bytes() -> None:
    written = coco.encode(np.zeros((3, 4), dtype=np.uint8, order="F"))
    said = mask_of(written)
    assert isinstance(said, Mapping)
    assert said["counts"] == written["counts"].decode()


def test_every_form_of_a_picture_is_the_same_picture(tmp_path: Path) -> None:
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    forms = (array, image, tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes())
    assert len({file_of(form) for form in forms}) == 1


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the client's own wheel installs."""
    out = tmp_path_factory.mktemp("client")
    source = out / "source"
    source.mkdir()
    for path in (ROOT / "ovam_client").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT / "ovam_client")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    with zipfile.ZipFile(wheel_of(source, out)) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_alone_it_needs_nothing_of_the_service(wheel: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}){ALONE}"],
        cwd=wheel.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.split() == [
        str(wheel / "ovam_client" / "__init__.py"),
        __version__,
        "[]",
        "Client('https://example.org')",
    ]


def test_alone_it_is_typed_and_complete(wheel: Path) -> None:
    here = {
        path.relative_to(ROOT / "ovam_client")
        for path in (ROOT / "ovam_client").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    there = {path.relative_to(wheel / "ovam_client") for path in (wheel / "ovam_client").rglob("*") if path.is_file()}
    assert here <= there
