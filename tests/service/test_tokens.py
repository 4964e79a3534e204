import base64
import hashlib

import httpx2
import pytest

from contracts.state import keys
from tests.service.in_test_worker import InTestWorker, card, token
from tests.service.serving import Json, Traces, assert_problem

FORMS = {"safetensors": ".safetensors", "textual-inversion": ".textual-inversion.safetensors", "npy": ".npy"}
FILE = base64.b64encode(b"any bytes").decode()
NPY: Json = {"file": FILE, "format": "npy", "name": "cat"}


@pytest.fixture
async def published(worker: InTestWorker) -> InTestWorker:
    """A worker that has learned two versions of `cat` and one of `dog`."""
    await worker.publish_token(token("cat"), token("dog"), token("cat"))
    return worker


@pytest.mark.usefixtures("published")
async def test_tokens_are_listed_by_name_with_how_many_versions_they_have(client: httpx2.AsyncClient) -> None:
    found = (await client.get("/v1/tokens")).json()
    assert [(each["name"], each["version"], each["versions"]) for each in found["tokens"]] == [("cat", 2, 2), ("dog", 1, 1)]
    assert found["next"] is None
    first = (await client.get("/v1/tokens", params={"limit": 1})).json()
    rest = (await client.get("/v1/tokens", params={"cursor": first["next"]})).json()
    assert [each["name"] for each in first["tokens"] + rest["tokens"]] == ["cat", "dog"]
    assert rest["next"] is None
    assert (await client.get("/v1/tokens", params={"limit": 2})).json()["next"] is None


@pytest.mark.usefixtures("published")
async def test_a_name_is_its_newest_version_and_a_version_is_always_the_same(client: httpx2.AsyncClient) -> None:
    newest, first = [(await client.get(f"/v1/tokens/{reference}")).json() for reference in ("cat", "cat@1")]
    assert (newest["version"], first["version"]) == (2, 1)
    assert (await client.get("/v1/tokens/cat%402")).json() == newest
    assert (await client.get("/v1/tokens/cat/versions")).json() == {"versions": [newest, first]}


@pytest.mark.parametrize("reference", ["cow", "cat@3", "dog@2"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/file"), ("DELETE", "")])
@pytest.mark.usefixtures("published")
async def test_a_token_that_is_not_there_is_not_found(client: httpx2.AsyncClient, reference: str, method: str, rest: str) -> None:
    assert_problem(await client.request(method, f"/v1/tokens/{reference}{rest}"), 404, "unknown-token", "reference")


@pytest.mark.parametrize("reference", ["Cat", "cat@0", "cat@x", "cat@", "@1", "%C3%BC", "cat@9999999999", "c%00t"])
@pytest.mark.usefixtures("published")
async def test_what_is_no_reference_is_refused(client: httpx2.AsyncClient, reference: str) -> None:
    assert_problem(await client.get(f"/v1/tokens/{reference}"), 422, "invalid-request", "reference")


@pytest.mark.usefixtures("published")
async def test_versions_and_new_names_belong_to_bare_names(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/v1/tokens/cow/versions"), 404, "unknown-token", "reference")
    assert_problem(await client.get("/v1/tokens/cat@1/versions"), 422, "invalid-request", "reference")
    assert_problem(await client.patch("/v1/tokens/cat@1", json={"name": "tiger"}), 422, "invalid-request", "reference")


@pytest.mark.parametrize(("form", "ending"), FORMS.items())
@pytest.mark.usefixtures("published")
async def test_a_token_is_fetched_as_a_file_of_each_form(client: httpx2.AsyncClient, form: str, ending: str) -> None:
    content = f"{form} of cat@2".encode()
    answer = await client.get("/v1/tokens/cat/file", params={"format": form})
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-disposition"] == f'attachment; filename="cat@2{ending}"'
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert (await client.get("/v1/tokens/cat/file")).content == b"safetensors of cat@2"


async def test_a_token_whose_file_is_gone_is_not_found(client: httpx2.AsyncClient, published: InTestWorker) -> None:
    await published.store.delete_folder("tokens")
    assert_problem(await client.get("/v1/tokens/cat/file"), 404, "unknown-token", "reference")


@pytest.mark.usefixtures("published")
async def test_who_has_a_tokens_file_already_gets_nothing_until_the_name_means_another(
    client: httpx2.AsyncClient, published: InTestWorker
) -> None:
    tag = (await client.get("/v1/tokens/dog/file")).headers["etag"]
    known = {"If-None-Match": tag}
    assert (await client.get("/v1/tokens/dog/file", headers=known)).status_code == 304
    assert (await client.get("/v1/tokens/dog@1/file", headers={"Range": "bytes=0-4"})).content == b"safet"
    part = {"Range": "bytes=0-4", "If-Range": tag}
    assert (await client.get("/v1/tokens/dog/file", headers=part)).status_code == 206
    await published.publish_token(token("dog"))
    assert (await client.get("/v1/tokens/dog/file", headers=part)).status_code == 200
    answer = await client.get("/v1/tokens/dog/file", headers=known)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")


@pytest.mark.usefixtures("published")
async def test_a_form_that_is_none_is_refused(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/v1/tokens/cat/file", params={"format": "pickle"}), 422, "invalid-request", "format")


async def test_a_renamed_token_keeps_its_versions_and_its_files(client: httpx2.AsyncClient, published: InTestWorker) -> None:
    answer = await client.patch("/v1/tokens/cat", json={"name": "tiger"})
    assert (answer.status_code, answer.json()["name"], answer.json()["version"]) == (200, "tiger", 2)
    assert_problem(await client.get("/v1/tokens/cat"), 404, "unknown-token")
    assert (await client.get("/v1/tokens/tiger@1/file")).content == b"safetensors of cat@1"
    await published.publish_token(token("tiger"))
    assert (await client.get("/v1/tokens/tiger")).json()["version"] == 3


@pytest.mark.usefixtures("published")
async def test_a_rename_onto_a_name_in_use_is_refused(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.patch("/v1/tokens/cat", json={"name": "dog"}), 409, "token-exists", "name")
    assert_problem(await client.patch("/v1/tokens/cow", json={"name": "bull"}), 404, "unknown-token", "reference")
    assert_problem(await client.patch("/v1/tokens/cat", json={"name": "../x"}), 422, "invalid-request", "name")
    answer = await client.patch("/v1/tokens/cat", content=b'{"name": "x"}', headers={"content-type": "text/plain"})
    assert_problem(answer, 415, "unsupported-media-type")
    assert [each["name"] for each in (await client.get("/v1/tokens")).json()["tokens"]] == ["cat", "dog"]


async def test_a_deleted_version_is_gone_with_its_files_and_the_others_stay(
    client: httpx2.AsyncClient, published: InTestWorker
) -> None:
    gone = (await client.get("/v1/tokens/cat@2")).json()["id"]
    assert (await client.delete("/v1/tokens/cat@2")).status_code == 204
    assert (await client.get("/v1/tokens/cat")).json()["version"] == 1
    assert [key async for key in published.store.keys_below(keys.token_folder(gone))] == []
    assert len([key async for key in published.store.keys_below("tokens")]) == 2 * len(FORMS)
    await published.publish_token(token("cat"))
    assert (await client.get("/v1/tokens/cat")).json()["version"] == 3


async def test_a_deleted_name_is_free_again(client: httpx2.AsyncClient, published: InTestWorker) -> None:
    assert (await client.delete("/v1/tokens/cat")).status_code == 204
    assert_problem(await client.get("/v1/tokens/cat/versions"), 404, "unknown-token")
    assert (await client.patch("/v1/tokens/dog", json={"name": "cat"})).json()["version"] == 1
    assert len([key async for key in published.store.keys_below("tokens")]) == len(FORMS)


@pytest.mark.usefixtures("worker")
async def test_an_import_is_a_job_with_its_model_filled_in(client: httpx2.AsyncClient, traces: Traces) -> None:
    answer = await client.post("/v1/tokens", json=NPY)
    record = answer.json()
    assert (answer.status_code, record["kind"], record["request"]["model"]) == (202, "import", "tiny")
    assert answer.headers["location"] == f"/v1/jobs/{record['id']}"
    assert await traces() == (1, 1, 1, 1)
    headers = {"Idempotency-Key": "k1"}
    twice = [(await client.post("/v1/tokens", json=NPY, headers=headers)).json()["id"] for _ in range(2)]
    assert twice[0] == twice[1]


BAD_IMPORTS = [
    ({"file": "not base64!"}, 422, "token-file-unreadable", "file"),
    ({"file": ""}, 422, "invalid-request", "file"),
    ({"model": "other"}, 404, "unknown-model", "model"),
    ({"format": "pickle"}, 422, "invalid-request", "format"),
    ({"name": None}, 422, "invalid-request", "body"),
    ({"name": "A cat"}, 422, "invalid-request", "name"),
    ({"classes": ["cat", "cat"]}, 422, "invalid-request", "classes"),
    ({"classes": ["cat"], "format": "safetensors"}, 422, "invalid-request", "classes"),
    ({"classes": []}, 422, "invalid-request", "classes"),
]


@pytest.mark.parametrize(("change", "status", "code", "field"), BAD_IMPORTS, ids=range(len(BAD_IMPORTS)))
@pytest.mark.usefixtures("worker")
async def test_a_bad_import_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient, traces: Traces, change: Json, status: int, code: str, field: str
) -> None:
    assert_problem(await client.post("/v1/tokens", json=NPY | change), status, code, field)
    assert await traces() == (0, 0, 0, 0)


async def test_a_published_file_may_go_without_a_name(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card("other", default=False))
    answer = await client.post("/v1/tokens", json={"file": FILE, "format": "published", "model": "other"})
    assert (answer.status_code, answer.json()["request"]["model"]) == (202, "other")
