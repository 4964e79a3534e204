"""What programs use, with the bundled model: the client that awaits, the commands, OpenAI's own client."""

import asyncio
import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

from launcher.cli import app
from ovam_client import AsyncClient, Client
from tests.packaging.files import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


def test_many_jobs_are_asked_for_at_once_without_threads(service_url: str) -> None:
    async def story() -> list[Any]:
        async with AsyncClient(service_url, timeout=60) as client:
            seen: list[int] = []
            job = await (await client.generate("a photograph of a bus", seed=3)).wait(lambda progress: seen.append(progress.done))
            assert seen[-1] == job.result.num_inference_steps
            answers = await asyncio.gather(*(job.attribute(word) for word in ("bus", "coach", "grass")))
            (bus,), *_ = answers
            heat = await bus.heatmap()
            assert heat.shape == bus.mask.shape == (await job.image()).size[::-1]
            assert heat[bus.mask].mean() > heat[~bus.mask].mean()
            return [segment.label for (segment,) in answers]

    assert asyncio.run(story()) == ["bus", "coach", "grass"]


def test_the_client_s_page_works_as_printed(service_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_URL", service_url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "client.md").read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/client.md", "exec"), names)  # noqa: S102
    assert len(names["cats"]) == len(names["labels"]) == 2
    assert names["mask"].shape == names["heat"].shape


def test_openai_s_client_gets_an_image_that_can_be_asked(service_url: str, service: Client) -> None:
    with openai.OpenAI(base_url=f"{service_url}/v1", api_key="none") as theirs:
        answer = theirs.images.generate(prompt="a photograph of a bus", response_format="b64_json", extra_body={"seed": 3})
    (image,) = answer.data or []
    picture = Image.open(io.BytesIO(base64.b64decode(image.b64_json or "")))
    job = service.jobs.get((answer.model_extra or {})["ovam"]["job_id"])
    assert np.array_equal(np.array(job.image()), np.array(picture))
    (segment,) = job.attribute("bus")
    assert segment.area > 0


def test_the_commands_go_from_a_prompt_to_a_token(service_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_URL", service_url)
    monkeypatch.chdir(tmp_path)

    def ovam(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    job = ovam("generate", "a photograph of a bus", "--seed", "3", "--out", "bus.png")
    assert ovam("attribute", job, "bus", "--out", "masks").startswith("bus\t")
    with Image.open("masks/bus-mask.png") as mask, Image.open("bus.png") as image:
        assert mask.size == image.size
    assert np.load("masks/bus-heatmap.npy").dtype == np.float32
    learned = ovam("learn", "commands-bus", "-e", f"{job}=masks/bus-mask.png", "--epochs", "5", "--out", "bus.safetensors")
    assert learned == "commands-bus@1"
    assert ovam("tokens", "import", "bus.safetensors", "--name", "commands-again") == "commands-again@1"
    assert ovam("attribute", job, learned).startswith("commands-bus\t")
    photo = ovam("image", "bus.png")
    assert ovam("attribute", photo, "bus").startswith("bus\t")
    assert job in ovam("jobs", "--kind", "generate", "--limit", "100")
    for name in ("commands-bus", "commands-again"):
        ovam("tokens", "delete", name)
