"""Adapters over HTTP: loaded for a job, gone after it, there again for questions about it."""

import asyncio
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image
from safetensors.torch import save_file

from contracts.state import keys
from ovam.attention.text import encode
from ovam.tracing.replay import Replay
from tests.e2e.steering import (
    PROMPT,
    WAIT,
    done,
    encoded,
    picture,
    pixels,
    saved_controlnet,
    saved_inversion,
    saved_ip_adapter,
    saved_lora,
    saved_models,
    steered,
)
from tests.families import tiny_family
from tests.service.serving import Json, assert_problem
from worker.adapters import embeddings_in
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
        "edges": saved_controlnet("sd1", folder / "edges"),
        "edges-xl": saved_controlnet("sdxl", folder / "edges-xl"),
        "looks": saved_ip_adapter("sd1", folder / "looks"),
        "looks-xl": saved_ip_adapter("sdxl", folder / "looks-xl"),
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


async def test_a_data_set_is_drawn_and_asked_with_the_adapters_that_it_names(service: Service) -> None:
    http, _ = service
    drawn = SMALL | {"model": "sd1", "adapters": [{"name": "style", "scale": 0.6}, {"name": "toy"}], "clip_skip": 1}
    classes = [{"name": "toy", "target": {"prompt": "a <toy>", "word": "<toy>"}}, {"name": "cat"}]
    request = {"prompts": ["a <toy> on a cat"], "classes": classes, "seed": 5, "generation": drawn, "filters": {}}
    answer = await http.post("/v1/datasets", json=request)
    assert answer.status_code == 202, answer.text
    record, place = answer.json(), f"/v1/datasets/{answer.json()['id']}"
    async with asyncio.timeout(120):
        while record["state"] in ("queued", "running"):
            await asyncio.sleep(0.2)
            record = (await http.get(place)).json()
    assert (record["state"], record["counts"]["accepted"]) == ("succeeded", 1), record
    archive = (await http.get(f"{place}/export", params={"format": "coco"})).content
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    (image,) = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for name, data in files.items() if "/000000" in name)
    alone = await done(http, drawn | {"prompt": "a <toy> on a cat", "seed": 5})
    assert np.array_equal(image, await pixels(http, alone))
    plain = await done(http, SMALL | {"model": "sd1", "prompt": "a <toy> on a cat", "seed": 5})
    assert not np.array_equal(image, await pixels(http, plain))
    assert json.loads(files["datasheet.json"])["adapters"] == {"style": 0.6, "toy": 1.0}
    assert "## Adapters\n\n- style: 0.6\n- toy: 1.0" in files["DATASHEET.md"].decode()
    long = await http.post("/v1/datasets", json=request | {"prompts": ["a cat" + " <toy>" * 40]})  # 2 tokens each, 77 in all
    assert_problem(long, 422, "prompt-too-long", "prompts.0")


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # several are meant to be there
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
async def test_loras_and_a_textual_inversion_draw_as_diffusers_does_and_leave_the_model_as_it_was(
    service: Service, adapters: dict[str, str], family: str
) -> None:
    http, worker = service
    before = await state_of(worker, family)
    loras = {"sd1": {"style": 0.6, "style.two": -0.5}, "sdxl": {"style-xl": 0.6}}[family]
    word = {"sd1": "toy", "sdxl": "toy-xl"}[family]
    prompt = f"a <{word}> on a cat"
    uses = [*({"name": name, "scale": scale} for name, scale in loras.items()), {"name": word}]
    record = await done(http, SMALL | {"model": family, "prompt": prompt, "adapters": uses})
    assert [(use["name"], use["scale"], use["kind"]) for use in record["request"]["adapters"]] == [
        *((name, scale, "lora") for name, scale in loras.items()),
        (word, 1.0, "textual-inversion"),
    ]
    assert record["result"]["adapters"] == record["request"]["adapters"]
    assert record["result"]["keep"] == "replay"
    pipeline = tiny_family(family)
    for end, rows in zip(("", "_2"), embeddings_in(Path(adapters[word])), strict=False):
        encoder, tokenizer = getattr(pipeline, f"text_encoder{end}"), getattr(pipeline, f"tokenizer{end}")
        pipeline.load_textual_inversion(rows, token=f"<{word}>", tokenizer=tokenizer, text_encoder=encoder)
    for number, name in enumerate(loras):
        pipeline.load_lora_weights(Path(adapters[name]) / "pytorch_lora_weights.safetensors", adapter_name=f"it{number}")
    pipeline.set_adapters([f"it{number}" for number in range(len(loras))], [*loras.values()])
    image = pipeline(prompt, generator=torch.Generator().manual_seed(3), height=64, width=64, **SMALL).images[0]
    assert np.abs(await pixels(http, record) - np.asarray(image).astype(int)).max() <= 1
    worker.scenes.forget_model(family)  # so that questions replay, with the adapters again
    toy = {"prompt": prompt, "word": f"<{word}>"}
    asked = await done(http, {"job_id": record["id"], "targets": [toy, {"word": "cat"}]}, "/v1/attribute")
    assert len(asked["result"]["segments"]) == 2
    probed = await done(http, {"point": [3, 3], "words": ["cat", "dog"]}, f"/v1/jobs/{record['id']}/probe")
    assert probed["result"]["words"]
    assert_same(before, await state_of(worker, family))


async def test_an_image_is_compared_and_drawn_again_with_its_own_adapters(service: Service) -> None:
    http, worker = service
    before = await state_of(worker)
    request = SMALL | {"model": "sd1", "prompt": "a cat on a mat", "seed": 3}
    start = {"image": FOLLOWED, "strength": 1.0}
    plain = await done(http, request)
    styled = await done(http, request | start | {"adapters": [{"name": "style", "scale": 2.0}], "height": 64, "width": 64})
    worker.scenes.forget_model("sd1")  # a replay would be refused with other adapters
    asked = {"targets": [{"word": "cat"}], "causal": {"from_evaluation": 0}}
    there = await done(http, asked | {"job_id": styled["id"], "against": plain["id"]}, "/v1/attribute")
    back = await done(http, {"targets": [{"word": "cat"}], "job_id": plain["id"], "against": styled["id"]}, "/v1/attribute")
    (one,), (other,) = there["result"]["segments"], back["result"]["segments"]
    assert one["difference"]["total"] == pytest.approx(other["difference"]["total"], rel=1e-4)
    assert one["difference"]["total"] > 0
    assert there["result"]["causal"]["redrawn"] == 0, "from its own image, with its own LoRA"
    assert max(one["causal"][part] or 0 for part in ("inside", "outside")) > 0
    louder = await done(http, request | {"emphasis": [{"word": "cat", "weight": 1.5}]})
    answer = await http.post("/v1/attribute", json=asked | {"job_id": louder["id"]}, headers=WAIT)
    assert answer.json()["error"]["code"] == "settings-contradict", answer.text
    assert_same(before, await state_of(worker))


FOLLOWED = encoded(picture(64, 96))
STARTS: dict[str, Json] = {
    "text": {},
    "image": {"image": FOLLOWED, "strength": 1.0},
    "mask": {"image": FOLLOWED, "mask": [[0, 0, 48, 0, 48, 64, 0, 64]]},
}


@pytest.mark.parametrize(("family", "start"), [("sd1", "text"), ("sd1", "image"), ("sdxl", "mask")])
async def test_a_controlnet_is_followed_and_its_images_keep_their_queries(service: Service, family: str, start: str) -> None:
    http, worker = service
    before = await state_of(worker, family)
    body = SMALL | {"model": family} | STARTS[start]
    control = {"name": "edges" if family == "sd1" else "edges-xl", "image": FOLLOWED}
    record = await done(http, body | {"control": control | {"scale": 0.9, "start": 0.0, "end": 0.9}})
    request, result = record["request"], record["result"]
    assert (request["height"], request["width"], request["control"]["end"]) == (64, 96, 0.9)
    assert (request["capture"]["keep"], result["keep"]) == ("queries", "queries")
    assert [use["kind"] for use in result["adapters"]] == ["controlnet"]
    nothing, replayed = [
        await done(http, body | {"height": 64, "width": 96} | more)
        for more in ({"control": control | {"scale": 0}}, {"control": control, "capture": {"keep": "replay"}})
    ]
    assert np.abs(await pixels(http, record) - await pixels(http, nothing)).max() > 1
    assert replayed["result"]["keep"] == "queries"  # although a replay was asked for
    worker.scenes.forget_model(family)
    asked = await done(http, {"job_id": record["id"], "targets": [{"word": "cat"}]}, "/v1/attribute")
    assert asked["result"]["segments"][0]["rle"]["size"] == [64, 96]
    assert_same(before, await state_of(worker, family))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
async def test_an_image_prompt_is_drawn_and_replayed(service: Service, family: str) -> None:
    http, worker = service
    before = await state_of(worker, family)
    prompt = {"name": "looks" if family == "sd1" else "looks-xl", "image": encoded(picture())}
    body = SMALL | {"model": family}
    some, none = [await done(http, body | {"image_prompt": prompt | {"scale": scale}}) for scale in (0.7, 0.0)]
    assert np.abs(await pixels(http, some) - await pixels(http, none)).max() > 1
    assert [(use["kind"], use["scale"]) for use in some["result"]["adapters"]] == [("ip-adapter", 0.7)]
    assert some["result"]["keep"] == "replay"
    first = await done(http, {"job_id": some["id"], "targets": [{"word": "cat"}]}, "/v1/attribute")
    worker.scenes.forget_model(family)
    again = await done(http, {"job_id": some["id"], "targets": [{"word": "cat"}]}, "/v1/attribute")
    assert first["result"]["segments"][0]["score"] == pytest.approx(again["result"]["segments"][0]["score"], abs=1e-3)
    assert_same(before, await state_of(worker, family))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
async def test_emphasis_moves_a_words_rows_and_clip_skip_leaves_out_layers(service: Service, family: str) -> None:
    http, worker = service
    body = SMALL | {"model": family}
    plain, same, more, skipped = [
        await done(http, body | options)
        for options in (
            {},
            {"emphasis": [{"word": "cat", "weight": 1.0}]},
            {"emphasis": [{"word": "cat", "weight": 2.0}, {"word": "a", "weight": 0.5, "occurrence": 0}]},
            {"clip_skip": 1},
        )
    ]
    images = [await pixels(http, record) for record in (plain, same, more, skipped)]
    assert np.abs(images[0] - images[1]).max() <= 1
    assert np.abs(images[0] - images[2]).max() > 1
    assert np.abs(images[0] - images[3]).max() > 1
    replay = Replay.from_bytes(await stored(worker, more, keys.replay(0)))
    given = replay.conditions["encoder_hidden_states"][0]
    pipeline = (await worker.models.get(family)).pipeline
    embedding, tokens = encode(pipeline, PROMPT, padding="max_length")
    empty, _ = encode(pipeline, "", padding="max_length")
    (row,) = [token.index for token in tokens if token.text == "cat"]
    assert torch.allclose(given[row], empty[row] + 2 * (embedding[row] - empty[row]), atol=1e-4)
    assert torch.allclose(given[row + 1], embedding[row + 1], atol=1e-4)
    asked = await done(http, {"job_id": skipped["id"], "targets": [{"word": "cat"}]}, "/v1/attribute")
    assert Replay.from_bytes(await stored(worker, skipped, keys.replay(0))).clip_skip == 1
    assert asked["result"]["segments"]


async def stored(worker: Resources, record: Json, name: str) -> bytes:
    return await worker.store.get(f"{keys.attempt_folder(record['id'], record['attempt'])}/{name}") or b""


REFUSED: list[tuple[Json, int, str, str]] = [
    ({"adapters": [{"name": "styles"}]}, 404, "unknown-adapter", "adapters.0.name"),
    ({"adapters": [{"name": "style-xl"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "toy-xl"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "pickled"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "torn"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "elsewhere"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "nowhere"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "edges"}]}, 422, "adapter-unfit", "adapters.0.name"),
    ({"adapters": [{"name": "style", "scale": 4.1}]}, 422, "invalid-request", "adapters.0.scale"),
    ({"adapters": [{"name": "toy", "scale": 0.5}]}, 422, "settings-contradict", "adapters.0.scale"),
    ({"adapters": [{"name": "style"}] * 2}, 422, "invalid-request", ""),
    ({"control": {"name": "edges", "image": encoded(picture(64, 64)), "scale": 2.1}}, 422, "invalid-request", "control.scale"),
    ({"control": {"name": "edges", "image": FOLLOWED, "start": 0.5, "end": 0.5}}, 422, "invalid-request", "control"),
    ({"control": {"name": "edges", "image": FOLLOWED}, "height": 64, "width": 64}, 422, "settings-contradict", "control.image"),
    ({"control": {"name": "edges-xl", "image": FOLLOWED}}, 422, "adapter-unfit", "control.name"),
    ({"control": {"name": "style", "image": FOLLOWED}}, 422, "adapter-unfit", "control.name"),
    ({"image_prompt": {"name": "looks", "image": "QUJD"}}, 422, "image-unreadable", "image_prompt.image"),
    ({"image_prompt": {"name": "looks", "image": FOLLOWED}, "model": "sdxl"}, 422, "adapter-unfit", "image_prompt.name"),
    ({"clip_skip": 3}, 422, "settings-contradict", "clip_skip"),
    ({"emphasis": [{"word": "dog", "weight": 1.5}]}, 422, "word-not-in-prompt", "emphasis.0.word"),
    ({"emphasis": [{"word": "cat", "weight": 2.1}]}, 422, "invalid-request", "emphasis.0.weight"),
]


async def test_what_does_not_fit_is_refused_and_says_why(service: Service) -> None:
    http, worker = service
    before = await state_of(worker)
    for body, status, code, field in REFUSED:
        assert_problem(await http.post("/v1/generate", json={"prompt": PROMPT} | body), status, code, field or None)
    (card,) = [card for card in (await http.get("/v1/models")).json()["models"] if card["name"] == "sd1"]
    assert {each["name"]: each["kind"] for each in card["adapters"]} == {
        "style": "lora",
        "style.two": "lora",
        "toy": "textual-inversion",
        "edges": "controlnet",
        "looks": "ip-adapter",
    }
    assert card["can"][-4:] == ["lora", "textual-inversion", "controlnet", "ip-adapter"]
    reasons = card["other_adapters"]
    assert "could run code" in reasons["pickled"]
    assert "takes 64 numbers; the model's takes 32" in reasons["style-xl"]
    assert "which the model has not" in reasons["elsewhere"]
    assert "no file or folder" in reasons["nowhere"]
    assert_same(before, await state_of(worker))


async def test_jobs_that_fail_or_are_canceled_leave_the_model_as_it_was(service: Service, folder: Path) -> None:
    http, worker = service
    before = await state_of(worker)
    style = [{"name": "style", "scale": 0.5}, {"name": "style.two", "scale": -0.5}, {"name": "toy"}]
    long = {"prompt": PROMPT, "adapters": style, "num_inference_steps": 150}
    job = (await http.post("/v1/generate", json=long)).json()["id"]
    while (state := (await http.get(f"/v1/jobs/{job}")).json()["state"]) == "queued":
        await asyncio.sleep(0.02)
    assert state == "running", "two LoRAs, one of them with a dot in its name, and a textual inversion"
    meanwhile = await done(http, SMALL)  # while the other's adapters are loaded
    await http.post(f"/v1/jobs/{job}/cancel")
    assert_same(before, await state_of(worker))
    assert np.abs(await pixels(http, meanwhile) - await pixels(http, await done(http, SMALL))).max() <= 1

    made = await done(http, SMALL | {"adapters": style[:1]})
    file = folder / "style" / "pytorch_lora_weights.safetensors"
    data = file.read_bytes()
    shutil.copy(folder / "two" / file.name, file)  # the name means another file now
    try:
        answer = await http.post("/v1/generate", json={"prompt": PROMPT, "adapters": style[:1]}, headers=WAIT)
        assert answer.json()["error"]["code"] == "unknown-adapter"
        assert "another file now" in answer.json()["error"]["detail"]
        asked = {"job_id": made["id"], "targets": [{"word": "cat"}]}
        answer = await http.post("/v1/attribute", json=asked, headers=WAIT)
        assert answer.json()["error"]["code"] == "unknown-adapter"
    finally:
        file.write_bytes(data)
    assert_same(before, await state_of(worker))
