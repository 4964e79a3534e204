"""Tokens come from files and go as files, through a worker; a file that holds none changes nothing."""

import base64
import json
import os
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import ovam
from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import JobRecord, State
from contracts.schema.optimize import LabelsExample
from contracts.schema.tokens import MAX_CLASSES, ImportJob
from contracts.state import keys, requests
from contracts.state.registry import Registry
from ovam.core.label_maps import indexed_png
from ovam.learning.token_files import LearnedTokens, from_safetensors, to_npy, to_safetensors, to_textual_inversion
from tests.worker.client import Client, soon
from worker.handlers.imports import name_of
from worker.resources import Resources
from worker.tokens import rows_of_token

ROWS = torch.arange(64, dtype=torch.float32).view(2, 32) / 64
CAT = LearnedTokens(ROWS, ("cat",), {})
DICT = {"cat": ROWS.numpy(), "Cell Phone": np.ones((2, 32), np.float32)}


pytestmark = pytest.mark.usefixtures("worker")


async def imported(client: Client, data: bytes, form: str, name: str | None = "cat", **fields: Any) -> JobRecord:
    """An import that has ended."""
    await soon(lambda: client.redis.exists(keys.MODELS))
    file = base64.b64encode(data).decode()
    return await client.run(ImportJob(file=file, format=form, name=name, model="tiny", **fields))


async def file_of(client: Client, reference: str, form: str) -> bytes:
    """A token's file, as the gateway sends it."""
    card = await Registry(client.redis).get(reference)
    return await client.store.get(keys.token_object(card.id, form))


async def registry_and_store(client: Client) -> tuple[Any, ...]:
    """What there is of tokens, and which artifacts there are."""
    names = sorted(await client.redis.hgetall(keys.TOKENS))
    kept = [name for name in await client.stored("jobs") if not name.endswith("/request")]  # a job keeps its request
    return names, sorted(await client.stored("tokens")), sorted(kept)


def npy(value: Any) -> bytes:
    buffer = BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


async def test_a_file_that_is_too_large_for_the_record_is_read_from_the_store(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LARGE", 300)
    record = await imported(client, npy(np.ones((2, 32), np.float32)), "npy")
    assert record.request is None
    assert await client.redis.strlen(keys.job(record.id)) < 2000
    assert record.state is State.SUCCEEDED, record.error


async def test_two_classes_are_learned_together_exported_in_every_form_and_give_the_same_masks_when_they_come_back(
    client: Client, worker: Resources
) -> None:
    source = await client.generated()
    labels = np.zeros((64, 64), np.uint8)
    labels[8:40, 8:30], labels[20:60, 36:60], labels[:4] = 1, 2, 255
    example = LabelsExample(job_id=source.id, labels=base64.b64encode(indexed_png(labels)).decode())
    record = await client.run(client.optimization([example], "pets", classes=["cat", "dog"], epochs=25))
    assert record.state is State.SUCCEEDED, record.error
    pipeline = (await worker.models.get("tiny")).pipeline
    trace = await client.trace(source, pipeline)

    async def masks(reference: str) -> list[np.ndarray]:
        card, rows = await rows_of_token(Registry(client.redis), client.store, reference, field="token")
        assert card.classes == ["cat", "dog"]
        return [ovam.binarize(heat, 0.8) for heat in ovam.heatmaps(trace, rows, size=(64, 64))[1:]]

    facts = from_safetensors(await file_of(client, "pets", "safetensors")).metadata
    assert ("id" in facts, facts["model"]) == (False, "tiny"), "the service's own number is nobody else's"
    learned = await masks("pets")
    assert all(0 < mask.mean() < 1 for mask in learned)
    for form in ("safetensors", "textual-inversion", "npy"):
        classes = {"classes": ["cat", "dog"]} if form == "npy" else {}
        again = await imported(client, await file_of(client, "pets", form), form, f"again-{form}", **classes)
        result = {"kind": "import", "model": "tiny", "width": 32, "tokens": [f"again-{form}@1"]}
        assert again.result.model_dump() == result, again.error
        for one, other in zip(learned, await masks(f"again-{form}"), strict=True):
            assert np.array_equal(one, other)
        assert await file_of(client, f"again-{form}@1", "npy") == await file_of(client, "pets@1", "npy")
    card = await Registry(client.redis).get("again-npy")
    assert (card.origin, card.job_id, card.best_loss) == ("import", again.id, None)


async def test_a_published_dict_becomes_a_token_a_class(client: Client) -> None:
    registry = Registry(client.redis)
    record = await imported(client, npy(DICT), "published", "voc")
    assert record.result.tokens == ["voc-cat@1", "voc-cell-phone@1"]
    assert [event["state"] for event in await client.events(record.id)] == ["queued", "running", "succeeded"]
    record = await imported(client, npy(DICT), "published", "voc")
    assert record.result.tokens == ["voc-cat@2", "voc-cell-phone@2"]
    record = await imported(client, pickle.dumps(DICT), "published", None)
    assert record.result.tokens == ["cat@1", "cell-phone@1"]
    assert (await registry.get("voc-cell-phone")).classes == ["Cell Phone"]
    assert np.array_equal(np.load(BytesIO(await file_of(client, "voc-cat", "npy"))), DICT["cat"])
    assert len({(await registry.get(name)).id for name in ("voc-cat", "voc-cell-phone", "voc-cat@1")}) == 3
    assert await client.stored("jobs") == []


@pytest.mark.parametrize(
    ("class_name", "prefix", "name"),
    [("cell phone", "coco", "coco-cell-phone"), ("Zebra!", None, "zebra"), ("  a  b ", None, "a-b"), ("v1.0_x", None, "v1.0_x")],
)
def test_a_published_class_becomes_a_name(class_name: str, prefix: str | None, name: str) -> None:
    assert name_of(class_name, prefix) == name


async def test_tokens_of_others_are_taken(client: Client) -> None:
    registry = Registry(client.redis)
    await imported(client, save({"<cat-toy>": ROWS.half()}), "textual-inversion")
    assert (await registry.get("cat@1")).classes == ["cat-toy"]
    await imported(client, npy(ROWS.double().numpy()), "npy")
    assert (await registry.get("cat@2")).classes == ["token"]
    names = [f"class {number}" for number in range(MAX_CLASSES)]
    await imported(client, npy(np.ones((MAX_CLASSES + 1, 32), np.float32)), "npy", "many", classes=names)
    assert (await registry.get("many@1")).classes == names


async def test_a_token_whose_file_is_gone_from_the_store_is_named(client: Client) -> None:
    await imported(client, to_safetensors(CAT), "safetensors")
    card = await Registry(client.redis).get("cat")
    await client.store.delete(keys.token_object(card.id, "safetensors"))
    with pytest.raises(ServiceError, match=r"the file of token 'cat@1' in the store is damaged or missing") as caught:
        await rows_of_token(Registry(client.redis), client.store, "cat", field="targets.0.token")
    assert (caught.value.code, caught.value.field) == (Code.TOKEN_FILE_UNREADABLE, "targets.0.token")


class Call:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call[0], self.call[1:]


def damaged(folder: Path) -> list[tuple[str, bytes, str, str]]:
    """A name, bytes, a format, and the code of the problem they are."""
    pack = {"background": ROWS[0].clone(), "classes": ROWS[1:].clone()}
    header = json.dumps({"format": "ovam-tokens/1", "names": ["x" * 101], "metadata": {}})
    wide = LearnedTokens(torch.zeros(2, 31), ("cat",))
    other = LearnedTokens(ROWS, ("cat",), {"model": "huge"})
    double = LearnedTokens(torch.zeros(3, 32), ("cat", "dog"))
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
            ("one name twice", to_safetensors(double).replace(b"dog", b"cat"), "safetensors"),
            ("too few names", to_npy(double), "npy"),
            ("too many classes", npy(np.zeros((34, 32), np.float32)), "npy"),
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


async def test_a_file_that_cannot_be_taken_says_why_and_changes_nothing(client: Client, tmp_path: Path) -> None:
    await imported(client, to_safetensors(CAT), "safetensors")
    before, folder = await registry_and_store(client), tmp_path / "hostile"
    folder.mkdir()
    for name, data, form, code in damaged(folder):
        options = {"classes": ["cat"]} if name == "too few names" else {}
        record = await imported(client, data, form, **options)
        assert (record.state, record.result) == (State.FAILED, None), (name, form)
        assert (record.error.code, record.error.field) == (code, "file"), (name, form, record.error)
    for text in ("!!", "é"):
        record = await client.run(ImportJob(file=text, format="npy", name="cat", model="tiny"))
        assert (record.error.code, record.error.field) == (Code.TOKEN_FILE_UNREADABLE, "file")
    assert await registry_and_store(client) == before
    assert list(folder.iterdir()) == []


async def test_a_token_of_another_width_or_model_names_the_token_and_the_model(client: Client) -> None:
    wide = await imported(client, npy(np.zeros((2, 768), np.float32)), "npy", "voc-cat")
    assert wide.error.detail == "token 'voc-cat' is 768 wide; model 'tiny' takes 32"
    other = await imported(client, to_safetensors(LearnedTokens(ROWS, ("cat",), {"model": "huge"})), "safetensors")
    assert "'cat' was learned on model 'huge', not on 'tiny'" in other.error.detail


async def test_a_model_that_no_worker_offers_is_unknown(client: Client) -> None:
    file = base64.b64encode(to_safetensors(CAT)).decode()
    record = await client.run(ImportJob(file=file, format="safetensors", name="cat", model="huge"))
    assert (record.error.code, record.error.field) == (Code.UNKNOWN_MODEL, "model")
