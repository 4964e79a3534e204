"""What others make of the API's description: clients of two generators read real answers of every kind of job.

The generators pin other versions of packages than the service does, so `make clients` installs them, and the linter spectral,
in an environment of their own, whose folder CLIENT_GENERATORS names.
"""

import json
import os
import subprocess
from pathlib import Path

import httpx2
import pytest

from contracts.state import keys
from service import examples
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker, card, token
from tests.service.test_optimize import asked, png

FOLDER = os.environ.get("CLIENT_GENERATORS")
PROGRAMS, PYTHON = Path(FOLDER or "", "bin"), Path(FOLDER or "", "bin", "python")
SPECTRAL = Path(FOLDER or "", "node_modules", ".bin", "spectral")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs the generators that `make clients` installs")
REQUESTS = {
    "GenerateRequest": examples.GENERATE,
    "AttributeRequest": examples.ATTRIBUTE,
    "ImageRequest": examples.IMAGE,
    "ProbeRequest": examples.PROBE,
    "OptimizeRequest": examples.OPTIMIZE,
    "ImportRequest": examples.IMPORT,
}
ATTRS = """
import json, sys
import ovam_client.models as models
import ovam_client.api.jobs.optimize
for name, value in json.load(open(sys.argv[1])):
    if name == "JobRecord":  # a union's own error would be that of its last member
        getattr(models, value["kind"].capitalize() + "Job").from_dict(value["request"])
    again = getattr(models, name).from_dict(value).to_dict()
    again = json.loads(json.dumps(again).replace("+00:00", "Z"))
    assert again == value, (name, value, again)
"""
PYDANTIC = """
import json, sys
import models
for name, value in json.load(open(sys.argv[1])):
    read = getattr(models, name).model_validate(value)
    again = json.loads(read.model_dump_json(exclude_unset=True))
    assert set(again) == set(value), (name, value, again)
    if value.get("result"):
        assert again["result"]["kind"] == value["result"]["kind"] == type(read.request).__name__.removesuffix("Job").lower()
"""


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"max_queued": 20})


@pytest.fixture
async def answers(client: httpx2.AsyncClient, worker: InTestWorker, generated: str, tmp_path: Path) -> Path:
    """A file of real answers, each with the name of its schema; and of requests."""
    await worker.publish(card("other", default=False))
    await worker.publish_token(token("car"))
    targets = [{"word": "car"}, {"token": "car"}, {"label": "row", "embedding": [[0.5] * 8, [1.0] * 8]}]
    attribute = {"job_id": generated, "targets": targets, "semantic": {}, "instances": {}, "settings": {"evaluations": 0.5}}
    found = [*REQUESTS.items(), ("JobRecord", (await client.get(f"/v1/jobs/{generated}")).json())]
    for path, body in (
        ("/v1/attribute", attribute),
        ("/v1/images", {"image": png()}),
        (f"/v1/jobs/{generated}/probe", examples.PROBE),
        ("/v1/optimize", asked(generated, png()) | {"schedule": {"kind": "cosine"}}),
        ("/v1/tokens", examples.IMPORT),
    ):
        record = (await client.post(path, json=body)).json()
        ended = await worker.end(record["id"])
        found += [("JobRecord", record), ("JobRecord", json.loads(ended.model_dump_json()))]
    failed = (await client.post("/v1/generate", json=examples.GENERATE)).json()["id"]
    await worker.fail(failed, "no memory")
    for path, name in (
        (f"/v1/jobs/{failed}", "JobRecord"),
        ("/v1/jobs?limit=2", "JobList"),
        ("/v1/tokens", "TokenList"),
        ("/v1/tokens/car", "TokenCard"),
        ("/v1/models", "ModelList"),
        ("/v1/methods", "MethodList"),
        ("/v1/jobs/none", "Problem"),
        ("/readyz", "Readiness"),
    ):
        found.append((name, (await client.get(path)).json()))
    assert await worker.redis.zcard(keys.QUEUED) == 0
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(found))
    return file


def ran(*command: object, folder: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """The API's description as a file."""
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(create_app(GatewaySettings()).openapi()))
    return file


def test_the_client_of_openapi_python_client_reads_every_answer(document: Path, answers: Path, tmp_path: Path) -> None:
    output = ran(
        PROGRAMS / "openapi-python-client",
        "generate",
        "--path",
        document,
        "--output-path",
        "client",
        "--meta",
        "none",
        folder=tmp_path,
    )
    assert "ERROR" not in output, output
    assert "WARNING" not in output, output
    (tmp_path / "client").rename(tmp_path / "ovam_client")
    ran(PYTHON, "-c", ATTRS, answers, folder=tmp_path)


def test_the_classes_of_datamodel_code_generator_read_every_answer(document: Path, answers: Path, tmp_path: Path) -> None:
    options = ("--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel", "--output", "models.py")
    ran(PROGRAMS / "datamodel-codegen", "--input", document, *options, folder=tmp_path)
    ran(PYTHON, "-c", PYDANTIC, answers, folder=tmp_path)


def test_spectral_finds_no_error_by_its_default_rules(document: Path, tmp_path: Path) -> None:
    (tmp_path / ".spectral.yaml").write_text('extends: ["spectral:oas"]')
    ran(SPECTRAL, "lint", document, "--fail-severity", "error", folder=tmp_path)
