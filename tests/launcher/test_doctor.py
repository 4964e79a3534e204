import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from contracts.settings import BadSettingsError, load
from contracts.state.connections import check_server
from launcher import doctor
from launcher.doctor import device, examine, packages, probed, store
from launcher.models import model
from launcher.variables import EverySetting
from service.settings import GatewaySettings
from worker.settings import BUNDLED, WorkerSettings

Run = Callable[..., subprocess.CompletedProcess[str]]
CPU = {"torch": "2.13.0+cpu", "cuda": None, "gpus": [], "threads": 2}
GPU = {"torch": "2.13.0", "cuda": "13.0", "gpus": ["NVIDIA L4"], "threads": 2}


def test_the_doctor_names_what_is_broken_and_how_to_repair_it(ovam: Run) -> None:
    models = {"OVAM_MODELS": '{"a": "/nowhere"}', "OVAM_DEVICE": "cuda:99"}
    done = ovam("doctor", OVAM_REDIS_URL="redis://127.0.0.1:1", OVAM_PROT="1", **models)
    assert done.returncode == 1
    broken = ("BROKEN  Redis: ", "BROKEN  model a: ", "BROKEN  device: OVAM_DEVICE is 'cuda:99', but")
    for each in (
        *broken,
        "correct OVAM_MODELS",
        "OVAM_DEVICE=auto",
        "WARNING OVAM_PROT",
        "did you mean OVAM_PORT?",
        "ok      store",
    ):
        assert each in done.stdout
    assert "ovam: 3 things are broken\n" in done.stderr


def test_a_sound_installation_passes(ovam: Run, redis_url: str) -> None:
    done = ovam("doctor", OVAM_REDIS_URL=redis_url)
    assert done.returncode == 0, done.stdout
    assert not done.stderr
    assert "ok      model world" in done.stdout


@pytest.mark.parametrize(
    ("probe", "wanted", "verdict", "expected"),
    [
        (CPU, "auto", "ok", "CPU, 2 threads"),
        (CPU, "cpu", "ok", "CPU, 2 threads"),
        (CPU, "cuda", "broken", "sees no GPU"),
        (CPU, "cuda:1", "broken", "sees no GPU"),
        (GPU, "auto", "ok", "NVIDIA L4"),
        (GPU, "cuda", "ok", "NVIDIA L4"),
        (GPU, "cuda:0", "ok", "NVIDIA L4"),
        (GPU, "cpu", "ok", "CPU, 2 threads"),
        (GPU, "cuda:1", "broken", "sees 1 GPU"),
        ({"error": "libcudart.so"}, "auto", "broken", "libcudart.so"),
    ],
)
def test_the_device_is_the_one_that_a_worker_will_use(probe: dict[str, object], wanted: str, verdict: str, expected: str) -> None:
    finding = device(probe, wanted)
    assert finding.verdict == verdict
    assert expected in finding.detail


def test_a_torch_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE", "raise ImportError('libcudart.so is missing')")
    assert "libcudart.so is missing" in device(probed(), "auto").detail


def test_a_package_that_is_missing_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    assert [finding.verdict for finding in packages()] == ["ok", "broken"]


def test_a_store_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    assert store(EverySetting(store_url=f"file://{tmp_path}/store")).verdict == "ok"
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]  # it leaves nothing behind
    assert store(EverySetting(store_url="file:///proc/nowhere")).verdict == "broken"


def test_every_bad_setting_is_named_once(ovam: Run) -> None:
    done = ovam("doctor", OVAM_PORT="x", OVAM_DEVICE="tpu", OVAM_LOG_LEVEL="loud")
    broken = [line.partition("=")[0] for line in done.stdout.splitlines() if line.startswith("BROKEN")]
    assert sorted(broken) == [f"BROKEN  settings: OVAM_{name}" for name in ("DEVICE", "LOG_LEVEL", "PORT")]
    assert "3 things are broken" in done.stderr


def test_one_broken_thing_is_one_thing(ovam: Run) -> None:
    done = ovam("doctor", OVAM_MODELS="tiny")
    assert "BROKEN  settings: OVAM_MODELS: it is not JSON" in done.stdout
    assert done.stderr == "ovam: 1 thing is broken\n"


@pytest.mark.parametrize("harm", ["index", "weights", "cut"])
def test_a_folder_that_is_not_a_whole_model_is_broken(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder)
    assert model("mine", str(folder)).verdict == "ok"
    weights = sorted(folder.rglob("*.safetensors"))
    match harm:
        case "index":
            (folder / "model_index.json").unlink()
        case "weights":
            for file in weights:
                file.unlink()
        case _:
            weights[0].write_bytes(weights[0].read_bytes()[:1000])
    finding = model("mine", str(folder))
    assert (finding.verdict, finding.thing) == ("broken", "model mine")
    assert "download the model again" in finding.remedy


@pytest.mark.parametrize("offline", ["1", "0"])
def test_a_hub_id_that_is_neither_cached_nor_within_reach_is_said_to_be_so(ovam: Run, offline: str) -> None:
    variables = {"HF_HUB_OFFLINE": offline, "TRANSFORMERS_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = ovam("doctor", OVAM_MODELS='{"far": "nobody/nothing"}', **variables)
    assert done.returncode == 1
    assert "BROKEN  model far: 'nobody/nothing' is not in the local Hugging Face cache" in done.stdout
    assert "(offline)" in done.stdout
    assert "hf download nobody/nothing" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that has one model, `me/there`, and one that is gated, `me/gated`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/api/models/me/there":
                    status, headers = 200, {}
                case "/api/models/me/gated":
                    status, headers = 403, {"X-Error-Code": "GatedRepo"}
                case _:
                    status, headers = 404, {"X-Error-Code": "RepoNotFound"}
            body = json.dumps({"id": "me/there", "modelId": "me/there", "siblings": []}).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_hub_id_that_can_be_downloaded_is_a_warning_and_others_are_told_apart(ovam: Run, hub: str) -> None:
    models = {"there": "me/there", "gated": "me/gated", "lost": "me/lost", "odd": "no id: at all"}
    variables = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    done = ovam("doctor", OVAM_MODELS=json.dumps(models), **variables)
    assert "WARNING model there: 'me/there' is not in the local Hugging Face cache" in done.stdout
    assert "BROKEN  model gated: me/gated is gated" in done.stdout
    assert "BROKEN  model lost: there is no folder me/lost, and no such model on the hub" in done.stdout
    assert "BROKEN  model odd: 'no id: at all' is neither a folder nor a hub id" in done.stdout
    assert "3 things are broken" in done.stderr


def test_a_hub_id_that_is_cached_is_examined_like_a_folder(ovam: Run, tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "hub" / "models--me--mine"
    shutil.copytree(BUNDLED, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    done = ovam("doctor", OVAM_MODELS='{"mine": "me/mine"}')
    assert done.returncode == 0, done.stdout
    assert "ok      model mine: " in done.stdout


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("OVAM_REDIS_URL", "redis://user:hush@127.0.0.1:1/0"),
        ("OVAM_REDIS_URL", "rediz://user:hush@127.0.0.1:1/0"),
        ("OVAM_REDIS_URL", "redis://127.0.0.1:1/0?password=hush"),
        ("OVAM_STORE_URL", "s4://key:hush@bucket"),
        ("OVAM_STORE_URL", "s3://key:hu/sh@bucket?token=hush"),
    ],
)
def test_no_message_shows_a_password(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(name, url)
    monkeypatch.setattr("launcher.doctor.probed", lambda: {"error": "not looked at"})
    said = [f"{finding.detail} {finding.remedy}" for finding in examine()]
    for kind in (GatewaySettings, WorkerSettings):
        try:
            asyncio.run(check_server(load(kind).redis_url))
        except BadSettingsError as error:
            said.append(str(error))
    assert len(said) > 5
    assert not [each for each in said if "hush" in each or "hu/sh" in each]
