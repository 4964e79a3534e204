"""The commands that ask a service, against a real gateway."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from contracts.schema.adapters import AdapterCard, AdapterKind
from launcher.cli import app
from launcher.variables import unknown_variables
from ovam_client.cli.session import newest_jobs, slug, token_names
from ovam_client.sync import Client
from tests.conftest import free_port
from tests.service.in_test_worker import InTestWorker, card, token

Run = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The gateway, which runs in this process, writes nothing to what a command prints to."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def ovam(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command against the gateway, in a folder of its own."""
    monkeypatch.setenv("OVAM_URL", url)
    monkeypatch.delenv("OVAM_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)

    return run


@pytest.fixture
async def busy(worker: InTestWorker) -> AsyncIterator[InTestWorker]:
    """A worker that ends every job well."""

    stopping = asyncio.Event()

    async def work() -> None:
        while not stopping.is_set():
            records, _ = await worker.ledger.newest(None, 10)
            for record in records:
                if record.state == "queued":
                    await worker.begin(record.id)
                    await worker.step(record.id, 2)
                    await worker.end(record.id)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(work())
    yield worker
    stopping.set()
    await task


@pytest.mark.usefixtures("busy")
async def test_targets_are_named_when_an_image_is_generated(ovam: Run, tmp_path: Path) -> None:
    asked = ("generate", "a red car", "-n", "2", "--target", "wheel", "-t", "roof", "--min-area", "0.1", "--masks", "found")
    found = await ovam(*asked)
    assert found.stdout.splitlines()[1:] == [f"{word}\tscore 1.00\tarea 1\tbox 0,0,1,1" for word in ("wheel", "roof")] * 2
    assert (tmp_path / "found" / "1" / "roof-mask.png").exists()
    record = json.loads((await ovam(*asked, "--json")).stdout)
    assert record["request"]["gate"].items() >= {"target": "wheel", "min_area": 0.1}.items()
    refused = await ovam("generate", "a red car", "--max-area", "0.5")
    assert refused.exit_code == 2


@pytest.mark.usefixtures("busy")
async def test_the_story_from_an_image_to_masks_and_a_token(ovam: Run, tmp_path: Path) -> None:
    made = await ovam("generate", "a red car", "--seed", "3", "-n", "2", "--out", "car.png")
    assert made.exit_code == 0, made.output
    job = made.stdout.strip()
    assert len(job) == 26
    assert (tmp_path / "car-0.png").stat().st_size == (tmp_path / "car-1.png").stat().st_size == 2048
    found = await ovam("attribute", job, "wheel", "roof", "wheel", "--out", "masks")
    assert found.stdout.splitlines() == [f"{word}\tscore 1.00\tarea 1\tbox 0,0,1,1" for word in ("wheel", "roof", "wheel")]
    names = {path.name for path in (tmp_path / "masks").iterdir()}
    assert {"wheel-mask.png", "wheel-2-mask.png", "roof-overlay.png"} <= names
    assert not [name for name in names if name.startswith(".")]
    mask = Image.new("L", (48, 64))
    mask.paste(255, (5, 5, 20, 20))
    mask.save("mask.png")
    learned = await ovam("learn", "car", "--example", f"{job}=mask.png", "-e", f"{job}:1=mask.png")
    assert learned.stdout.strip() == "car@1", learned.output
    listed = await ovam("tokens")
    assert listed.stdout.startswith("car@1\tcar\ttiny")
    jobs = json.loads((await ovam("jobs", "--json", "--kind", "generate")).stdout)
    assert [summary["id"] for summary in jobs] == [job]


@pytest.mark.usefixtures("busy")
async def test_a_picture_that_cannot_be_written_is_not_lost(ovam: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused = await ovam("generate", "a red car", "--out", "folder")
    assert (refused.exit_code, "is a directory" in refused.stderr) == (2, True)
    assert (await ovam("jobs")).stdout == ""  # nothing was asked for
    (tmp_path / "file").touch()
    failed = await ovam("generate", "a red car", "--out", "file/car.png")
    assert failed.exit_code == 2
    assert "car.png cannot be written: " in failed.stderr.replace("\n", " ")
    assert (await ovam("jobs", "show", failed.stdout.strip())).exit_code == 0


async def test_options_that_json_has_no_form_for_are_named(ovam: Run) -> None:
    refused = await ovam("generate", "a red car", "--guidance", "nan")
    assert (refused.exit_code, refused.stderr) == (2, "ovam: guidance_scale is nan; allowed: a finite number\n")
    refused = await ovam("generate", "a \udcff car")
    assert (refused.exit_code, refused.stderr) == (2, "ovam: prompt is 'a \\udcff car'; allowed: text in Unicode\n")


@pytest.mark.usefixtures("busy")
async def test_json_is_the_whole_record_and_alone_on_standard_output(ovam: Run) -> None:
    made = await ovam("generate", "a red car", "--json", "--no-self-attention")
    record = json.loads(made.stdout)
    assert record["state"] == "succeeded"
    assert record["request"]["capture"]["self_attention"] is False
    chosen = ("--tau", "0.3", "--aggregation", "equal")
    answer = json.loads((await ovam("attribute", record["id"], "car", "--against", "sky", *chosen, "--json")).stdout)
    assert answer["request"]["softmax"] == "together"
    settings = answer["request"]["targets"][0]["settings"]
    assert (settings["threshold"]["tau"], settings["aggregation"]) == (0.3, "equal")
    shown = json.loads((await ovam("jobs", "show", record["id"])).stdout)
    assert shown["id"] == record["id"]
    more = ("--against-job", record["id"], "--confidence", "--causal", "--instead", "hat", "--from-evaluation", "12")
    asked = json.loads((await ovam("attribute", record["id"], "car", "--json", *more)).stdout)["request"]
    assert (asked["against"], asked["confidence"]) == (record["id"], True)
    assert asked["causal"] == {"from_evaluation": 12, "instead": "hat"}
    said = await ovam("attribute", record["id"], "car", "--confidence")
    assert said.stdout.rstrip().endswith("box 0,0,1,1\tconfidence 0.75 (not calibrated)")


async def test_an_image_is_steered_by_what_its_model_has(ovam: Run, worker: InTestWorker, tmp_path: Path) -> None:
    kinds: dict[str, AdapterKind] = {"style": "lora", "edges": "controlnet", "looks": "ip-adapter"}
    adapters = [AdapterCard(name=name, kind=kind, weights="0" * 16, size=1) for name, kind in kinds.items()]
    await worker.publish(card().model_copy(update={"adapters": adapters, "max_clip_skip": 2}))
    Image.new("RGB", (64, 64)).save(tmp_path / "edges.png")
    followed = ("--control", "edges=edges.png", "--control-scale", "0.5", "--control-start", "0.1", "--control-end", "0.9")
    shown = (
        "--like",
        "looks=edges.png",
        "--like-scale",
        "0.3",
        "--adapter",
        "style:-0.5",
        "--clip-skip",
        "1",
        "--negative",
        "a hat",
    )
    weighed = ("--emphasis", "red car:1.5", "-e", "a#0:.5")
    started = ("--image", "edges.png", "--strength", "0.7")
    made = await ovam("generate", "a red car", *followed, *shown, *weighed, *started, "--no-wait", "--json")
    assert made.exit_code == 0, made.output
    request = json.loads(made.stdout)["request"]
    assert request["control"].items() >= {"name": "edges", "scale": 0.5, "start": 0.1, "end": 0.9}.items()
    assert request["image_prompt"].items() >= {"name": "looks", "scale": 0.3}.items()
    assert [[*each.values()] for each in request["emphasis"]] == [["red car", 1.5, None], ["a", 0.5, 0]]
    assert (request["adapters"][0]["scale"], request["clip_skip"], request["strength"]) == (-0.5, 1, 0.7)


@pytest.mark.usefixtures("busy")
async def test_a_photograph_is_looked_at(ovam: Run, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.jpg")
    made = await ovam("image", "photo.jpg", "--prompt", "a photograph of a wall")
    assert len(made.stdout.strip()) == 26, made.output


async def test_tokens_are_renamed_downloaded_and_deleted(ovam: Run, worker: InTestWorker, tmp_path: Path) -> None:
    await worker.publish_token(token("cat"))
    assert (await ovam("tokens", "rename", "cat", "kitten")).stdout.strip() == "kitten"
    assert (await ovam("tokens", "download", "kitten", "--out", "kitten.safetensors")).exit_code == 0
    assert (tmp_path / "kitten.safetensors").read_text().startswith("safetensors")
    assert json.loads((await ovam("tokens", "show", "kitten@1")).stdout)["name"] == "kitten"
    assert (await ovam("tokens", "delete", "kitten")).exit_code == 0
    assert (await ovam("tokens", "show", "kitten")).exit_code == 5


async def test_jobs_are_canceled_waited_for_and_deleted(ovam: Run, worker: InTestWorker) -> None:
    job = (await ovam("generate", "a red car", "--no-wait")).stdout.strip()
    assert (await ovam("jobs")).stdout.strip().split("\t")[::2] == [job, "generate"]
    assert (await ovam("jobs", "cancel", job)).stdout.strip() == "canceled"
    waited = await ovam("jobs", "wait", job)
    assert (waited.exit_code, waited.stdout) == (1, "")
    assert f"generate job {job} canceled" in waited.stderr
    assert (await ovam("jobs", "delete", job)).exit_code == 0
    assert (await ovam("jobs", "show", job)).exit_code == 5
    failing = (await ovam("generate", "a red car", "--no-wait")).stdout.strip()
    await worker.fail(failing, "the worker ran out of memory")
    assert "ran out of memory" in (await ovam("jobs", "wait", failing)).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "a red car", "--steps", "0"], "num_inference_steps"),
        (["generate", "a red car", "--emphasis", "car"], "WORD:WEIGHT"),
        (["generate", "a red car", "--control-end", "0.5"], "--control"),
        (["generate", "a red car", "--like-scale", "0.5"], "--like"),
        (["attribute", "1" * 26], "name a word"),
        (["attribute", "1" * 26, "car", "--settings", '{"aggregation": "equal"}', "--aggregation", "automatic"], "too"),
        (["attribute", "1" * 26, "car", "--settings", "{"], "no JSON"),
        (["attribute", "1" * 26, "car", "--settings", "[]"], "no object"),
        (["attribute", "1" * 26, "car", "--instead", "hat"], "--causal"),
        (["learn", "cat", "-e", "nothing"], "JOB=MASK"),
        (["learn", "cat", "-e", f"{'1' * 26}=absent.png"], "absent.png"),
        (["tokens", "download", "cat", "--out", "cat.bin"], ".npy"),
        (["image", "absent.png"], "absent.png"),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_wrong_arguments_are_told_with_exit_code_2(ovam: Run, arguments: list[str], said: str) -> None:
    done = await ovam(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stdout == ""


async def test_nobody_at_the_address_and_no_key_have_codes_of_their_own(ovam: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("ovam_client.cli.session.AWAY", 0.1)
    away = await ovam("tokens")
    assert away.exit_code == 3
    assert "OVAM_URL" in away.stderr
    monkeypatch.setenv("OVAM_URL", "nonsense")
    assert (await ovam("tokens")).exit_code == 2


@pytest.mark.usefixtures("worker")
async def test_a_shell_completes_tokens_and_jobs(ovam: Run, worker: InTestWorker, url: str) -> None:
    await worker.publish_token(token("cat"))
    job = (await ovam("generate", "a red car", "--no-wait")).stdout.strip()

    def completions() -> tuple[list[str], list[str]]:
        with Client(url) as client:
            return token_names(client), newest_jobs(client)

    assert await asyncio.to_thread(completions) == (["cat"], [job])


def test_labels_become_names_of_files_that_differ() -> None:
    taken: set[str] = set()
    assert [slug(label, taken) for label in ("a wheel", "a/wheel", "../..", "", "車")] == [
        "a-wheel",
        "a-wheel-2",
        "target",
        "target-2",
        "車",
    ]


def test_the_client_s_variables_are_settings_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OVAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OVAM_URL", "http://localhost:1")
    monkeypatch.setenv("OVAM_API_KEY", "ovam_x")
    assert list(unknown_variables()) == []
