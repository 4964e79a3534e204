"""Adapters over HTTP: loaded for a job, gone after it, there again for questions about it."""

import pickle
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file

from tests.e2e.steering import (
    PROMPT,
    done,
    picture,
    pixels,
    saved_inversion,
    saved_lora,
    saved_models,
    steered,
)
from tests.families import tiny_family
from tests.service.serving import Json, assert_problem
from worker.resources import Resources

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
]
Service = tuple[httpx2.AsyncClient, Resources]
SMALL: Json = {"num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def adapters(folder: Path) -> dict[str, str]:
    """Adapters of every kind, and such as no model can use."""
    (folder / "pickled.bin").write_bytes(pickle.dumps({"a": 1}))
    (folder / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    save_file(
        {"lora_unet_nowhere.lora_down.weight": torch.ones(2, 4), "lora_unet_nowhere.lora_up.weight": torch.ones(4, 2)},
        folder / "elsewhere.safetensors",
    )
    found = {
        "style": saved_lora("sd1", folder / "style"),
        "style.two": saved_lora("sd1", folder / "two", seed=2),
        "style-xl": saved_lora("sdxl", folder / "style-xl"),
        "toy": saved_inversion("sd1", folder / "toy.safetensors"),
        "toy-xl": saved_inversion("sdxl", folder / "toy-xl.safetensors"),
        "pickled": folder / "pickled.bin",
        "torn": folder / "torn.safetensors",
        "elsewhere": folder / "elsewhere.safetensors",
        "nowhere": folder / "nowhere",
    }
    return {name: str(path) for name, path in found.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(valkey: str, folder: Path, adapters: dict[str, str]) -> AsyncIterator[Service]:
    """A client of a gateway with a worker behind it, and that worker."""
    async with steered(valkey, folder, models=saved_models(folder), adapters=adapters) as found:
        yield found


async def state_of(worker: Resources, model: str = "sd1") -> dict[str, torch.Tensor]:
    """Every tensor of a model, and its vocabulary's size."""
    pipeline = (await worker.models.get(model)).pipeline
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    found = {f"{n}.{name}": tensor.clone() for n, part in enumerate(parts) for name, tensor in part.state_dict().items()}
    return found | {"words": torch.tensor(len(pipeline.tokenizer))}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
async def test_loras_and_a_textual_inversion_draw_as_diffusers_does_and_leave_the_model_as_it_was(
    service: Service, adapters: dict[str, str], family: str
) -> None:
    http, worker = service
    before = await state_of(worker, family)
    names = {"sd1": ("style", "toy"), "sdxl": ("style-xl", "toy-xl")}[family]
    prompt = f"a <{names[1]}> on a cat"
    uses = [{"name": names[0], "scale": 0.6}, {"name": names[1]}]
    record = await done(http, SMALL | {"model": family, "prompt": prompt, "adapters": uses})
    assert [(use["name"], use["scale"], use["kind"]) for use in record["request"]["adapters"]] == [
        (names[0], 0.6, "lora"),
        (names[1], 1.0, "textual-inversion"),
    ]
    assert record["result"]["adapters"] == record["request"]["adapters"]
    assert record["result"]["keep"] == "replay"
    pipeline = tiny_family(family)
    for end, rows in zip(("", "_2"), torch_rows(adapters[names[1]]), strict=False):
        encoder, tokenizer = getattr(pipeline, f"text_encoder{end}"), getattr(pipeline, f"tokenizer{end}")
        pipeline.load_textual_inversion(rows, token=f"<{names[1]}>", tokenizer=tokenizer, text_encoder=encoder)
    pipeline.load_lora_weights(Path(adapters[names[0]]) / "pytorch_lora_weights.safetensors", adapter_name="it")
    pipeline.set_adapters(["it"], [0.6])
    image = pipeline(prompt, generator=torch.Generator().manual_seed(3), height=64, width=64, **SMALL).images[0]
    assert np.abs(await pixels(http, record) - np.asarray(image).astype(int)).max() <= 1
    worker.scenes.forget_model(family)  # so that questions replay, with the adapters again
    word = {"prompt": prompt, "word": f"<{names[1]}>"}
    asked = await done(http, {"job_id": record["id"], "targets": [word, {"word": "cat"}]}, "/v1/attribute")
    assert len(asked["result"]["segments"]) == 2
    probed = await done(http, {"point": [3, 3], "words": ["cat", "dog"]}, f"/v1/jobs/{record['id']}/probe")
    assert probed["result"]["words"]
    assert_same(before, await state_of(worker, family))


def torch_rows(path: str) -> list[torch.Tensor]:
    from worker.adapters import embeddings_in

    return embeddings_in(Path(path))
