"""Tokens come and go as files, over HTTP and through a worker; a file that holds none changes nothing."""

import base64
import json
import os
import pickle
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from ovam.token_files import LearnedTokens, to_npy, to_safetensors, to_textual_inversion
from safetensors.torch import save

import ovam
from contracts import keys
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.serving import client_of
from tests.worker.client import Client, soon
from worker import tokens
from worker.resources import Resources
from worker.settings import WorkerSettings

Json = dict[str, Any]
ROWS = torch.arange(64, dtype=torch.float32).view(2, 32) / 64
CAT = LearnedTokens(ROWS, ("cat",), {})
DICT = {"cat": ROWS.numpy(), "Cell Phone": np.ones((2, 32), np.float32)}


pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
async def http(client: Client, settings: WorkerSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway in front of the worker."""
    gateway = GatewaySettings(redis_url=settings.redis_url, store_url=settings.store_url, data_dir=settings.data_dir)
    async with client_of(create_app(gateway)) as http:

        async def published() -> bool:
            return bool(await client.redis.exists(keys.MODELS))

        await soon(published)
        yield http


async def ended(http: httpx2.AsyncClient, client: Client, path: str, body: Json) -> Json:
    """The record of a job that was asked for and has ended."""
    answer = await http.post(path, json=body)
    assert answer.status_code == 202, answer.text
    job = await client.ended(answer.json()["id"])
    return (await http.get(f"/v1/jobs/{job.id}")).json()


async def imported(http: httpx2.AsyncClient, client: Client, data: bytes, form: str, **fields: Any) -> Json:
    """The record of an import that has ended."""
    body = {"file": base64.b64encode(data).decode(), "format": form, "name": "cat"} | fields
    return await ended(http, client, "/v1/tokens", body)


async def registry_and_store(client: Client) -> tuple[Any, ...]:
    """What there is of tokens, and which artifacts there are."""
    names = sorted(await client.redis.hgetall(keys.TOKENS))
    return names, sorted(await client.stored("tokens")), sorted(await client.stored("jobs"))


def npy(value: Any) -> bytes:
    buffer = BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


async def test_two_classes_are_learned_together_exported_in_every_form_and_give_the_same_masks_when_they_come_back(
    http: httpx2.AsyncClient, client: Client, worker: Resources
) -> None:
    source = await client.generated()
    labels = np.zeros((64, 64), np.uint8)
    labels[8:40, 8:30], labels[20:60, 36:60], labels[:4] = 1, 2, 255
    png = base64.b64encode(ovam.indexed_png(labels)).decode()
    body = {"name": "pets", "classes": ["cat", "dog"], "examples": [{"job_id": source.id, "labels": png}], "epochs": 25}
    record = await ended(http, client, "/v1/optimize", body)
    assert record["state"] == "succeeded", record
    model = await worker.models.get("tiny")
    trace = ovam.Trace.from_bytes(await client.artifact(source, keys.trace(0)), model.pipeline)

    async def masks(reference: str) -> list[np.ndarray]:
        card, rows = await tokens.embedding_of(client.redis, client.store, reference, model.card, field="token")
        assert card.classes == ["cat", "dog"]
        return [ovam.binarize(heat, 0.8).numpy() for heat in ovam.heatmaps(trace, rows, size=(64, 64))[1:]]

    learned = await masks("pets")
    assert all(0 < mask.mean() < 1 for mask in learned)
    for form, ending in (("safetensors", ".safetensors"), ("textual-inversion", ".safetensors"), ("npy", ".npy")):
        file = await http.get("/v1/tokens/pets/file", params={"format": form})
        assert file.headers["content-disposition"].endswith(f'{ending}"')
        classes = {"classes": ["cat", "dog"]} if form == "npy" else {}
        again = await imported(http, client, file.content, form, name=f"again-{form}", **classes)
        assert again["result"] == {"model": "tiny", "width": 32, "tokens": [f"again-{form}@1"]}, again
        for one, other in zip(learned, await masks(f"again-{form}"), strict=True):
            assert np.array_equal(one, other)
        same = await http.get(f"/v1/tokens/again-{form}@1/file", params={"format": "npy"})
        assert same.content == (await http.get("/v1/tokens/pets@1/file", params={"format": "npy"})).content
    card = (await http.get("/v1/tokens/again-npy")).json()
    assert (card["origin"], card["job_id"], card["best_loss"]) == ("import", again["id"], None)


async def test_a_published_dict_becomes_a_token_a_class(http: httpx2.AsyncClient, client: Client) -> None:
    record = await imported(http, client, npy(DICT), "published", name="voc")
    assert record["result"]["tokens"] == ["voc-cat@1", "voc-cell-phone@1"]
    record = await imported(http, client, npy(DICT), "published", name="voc")
    assert record["result"]["tokens"] == ["voc-cat@2", "voc-cell-phone@2"]
    record = await imported(http, client, pickle.dumps(DICT), "published", name=None)
    assert record["result"]["tokens"] == ["cat@1", "cell-phone@1"]
    assert (await http.get("/v1/tokens/voc-cell-phone")).json()["classes"] == ["Cell Phone"]
    file = await http.get("/v1/tokens/voc-cat/file", params={"format": "npy"})
    assert np.array_equal(np.load(BytesIO(file.content)), DICT["cat"])
    assert await client.stored("jobs") == []


async def test_tokens_of_others_are_taken(http: httpx2.AsyncClient, client: Client) -> None:
    await imported(http, client, save({"<cat-toy>": ROWS.half()}), "textual-inversion")
    assert (await http.get("/v1/tokens/cat@1")).json()["classes"] == ["cat-toy"]
    await imported(http, client, npy(ROWS.double().numpy()), "npy")
    assert (await http.get("/v1/tokens/cat@2")).json()["classes"] == ["token"]


class Call:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call[0], self.call[1:]


def damaged(folder: Path) -> list[tuple[str, bytes, str, str]]:
    """A name, bytes, a format, and the code of the problem they are."""
    pack, many = {"background": ROWS[0].clone(), "classes": ROWS[1:].clone()}, ("cat",) * 2
    header = json.dumps({"format": "ovam-tokens/1", "names": ["x" * 101], "metadata": {}})
    wide = LearnedTokens(torch.zeros(2, 31), ("cat",))
    other = LearnedTokens(ROWS, ("cat",), {"model": "huge"})
    double = LearnedTokens(torch.zeros(3, 32), many)
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 999999999999999), }".ljust(117) + b"\n"
    files: dict[str, list[tuple[str, bytes, str]]] = {
        "token-file-unreadable": [
            ("cut short", to_safetensors(CAT)[:-1], "safetensors"),
            ("cut in the header", to_textual_inversion(CAT)[:40], "textual-inversion"),
            ("cut short", to_npy(CAT)[:-1], "npy"),
            ("cut short", npy(DICT)[:-2], "published"),
            *((f"no {form}", b"\x00\x00 no tokens", form) for form in ("safetensors", "textual-inversion", "npy", "published")),
            ("of another form", to_npy(CAT), "safetensors"),
            ("of another form", to_safetensors(CAT), "npy"),
            ("of another form", to_safetensors(CAT), "textual-inversion"),
            ("pickled", npy(DICT), "npy"),
            ("not pickled", to_npy(CAT), "published"),
            ("promises too much", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + shape, "npy"),
            ("promises too much", (1 << 62).to_bytes(8, "little") + b"{}", "safetensors"),
            ("nested header", b"\x93NUMPY\x01\x00" + (5000).to_bytes(2, "little") + b"(" * 5000, "npy"),
            ("nested metadata", save({"<cat>": ROWS}, metadata={"tokens": "[" * 99_999}), "textual-inversion"),
            ("nested pickle", b"\x80\x04}\x8c\x03cat)" + b"\x85" * 99_999 + b"s.", "published"),
            ("long name", save(pack, metadata={"tokens": header}), "safetensors"),
            ("one name twice", to_safetensors(double), "safetensors"),
            ("too few names", to_npy(double), "npy"),
            ("a class without letters", pickle.dumps({"!!": ROWS.numpy()}), "published"),
            ("two classes of one name", pickle.dumps({"a b": ROWS.numpy(), "A-B": ROWS.numpy()}), "published"),
            ("a dict in a dict", pickle.dumps({"cat": DICT}), "published"),
        ],
        "token-file-unsafe": [
            ("calls", pickle.dumps(Call(os.system, f"touch {folder}/carried-out")), "published"),
            ("calls inside", npy({"cat": Call(eval, f"open('{folder}/carried-out', 'w')")}), "published"),
            ("objects", pickle.dumps({"cat": np.array([[None, 1]], dtype=object)}), "published"),
        ],
        "embedding-not-finite": [
            ("NaN", save({"<cat>": ROWS * torch.nan}), "textual-inversion"),
            ("NaN", npy(ROWS.numpy() * np.nan), "npy"),
            ("beyond single precision", npy(np.full((2, 32), 1e300)), "npy"),
            ("infinite", pickle.dumps({"cat": ROWS.numpy(), "dog": np.full((2, 32), np.inf, np.float32)}), "published"),
        ],
        "embedding-of-other-width": [
            ("wide", to_safetensors(wide), "safetensors"),
            ("wide", to_textual_inversion(wide), "textual-inversion"),
            ("wide", to_npy(wide), "npy"),
            ("one of two", pickle.dumps({**DICT, "dog": np.zeros((2, 768), np.float32)}), "published"),
            ("no numbers", npy(np.zeros((2, 0), np.float32)), "npy"),
        ],
        "token-of-other-model": [
            ("learned elsewhere", to_safetensors(other), "safetensors"),
            ("learned elsewhere", to_textual_inversion(other), "textual-inversion"),
        ],
    }
    return [(name, data, form, code) for code, group in files.items() for name, data, form in group]


async def test_a_file_that_cannot_be_taken_says_why_and_changes_nothing(
    http: httpx2.AsyncClient, client: Client, tmp_path: Path
) -> None:
    await imported(http, client, to_safetensors(CAT), "safetensors")
    before, folder = await registry_and_store(client), tmp_path / "hostile"
    folder.mkdir()
    for name, data, form, code in damaged(folder):
        options = {"classes": ["cat"]} if name == "too few names" else {}
        record = await imported(http, client, data, form, **options)
        assert (record["state"], record["result"]) == ("failed", None), (name, form)
        assert (record["error"]["code"], record["error"]["field"]) == (code, "file"), (name, form, record["error"])
    assert await registry_and_store(client) == before
    assert list(folder.iterdir()) == []


async def test_a_token_of_another_width_or_model_names_the_token_and_the_model(http: httpx2.AsyncClient, client: Client) -> None:
    wide = await imported(http, client, npy(np.zeros((2, 768), np.float32)), "npy", name="voc-cat")
    assert wide["error"]["detail"] == "token 'voc-cat' is 768 wide; model 'tiny' takes 32"
    other = await imported(http, client, to_safetensors(LearnedTokens(ROWS, ("cat",), {"model": "huge"})), "safetensors")
    assert "'cat' was learned on model 'huge', not on 'tiny'" in other["error"]["detail"]
