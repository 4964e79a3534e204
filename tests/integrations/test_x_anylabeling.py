"""X-AnyLabeling-Server's contract: its errors, its key, its full queue."""

import base64
from pathlib import Path

import httpx2
import numpy as np
import pytest
from redis.asyncio import Redis

from contracts.schema.access import KeyCard
from contracts.schema.jobs import utc_now
from contracts.state.keyring import Keyring
from service.app import create_app
from service.integrations import x_anylabeling
from service.integrations.asking import Asking, Found, Picture
from service.settings import GatewaySettings
from tests.integrations.theirs import Json
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import served

PATH = "/integrations/x-anylabeling"
pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def body(photograph: Path) -> Json:
    image = f"data:image/png;base64,{base64.b64encode(photograph.read_bytes()).decode()}"
    return {"model": "tiny", "image": image, "params": {"text_prompt": "car"}}


def assert_refused(answer: httpx2.Response, status: int, code: str, said: str) -> None:
    """Assert that this is an error as X-AnyLabeling-Server writes it."""
    found = answer.json()
    assert (answer.status_code, found["success"], found["error"]["code"]) == (status, False, code), answer.text
    assert said in found["error"]["message"]


async def test_what_is_less_sure_than_was_asked_for_is_left_out(
    online: httpx2.AsyncClient, body: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Picture("0" * 26, 0, "tiny", (8, 8), (8, 8))
    found = [Found(0.3, np.ones((8, 8), bool)), Found(0.6, np.ones((8, 8), bool))]

    async def file(*_: object) -> Picture:
        return picture

    async def targets(*_: object) -> list[Found]:
        return found

    monkeypatch.setattr(Asking, "file", file)
    monkeypatch.setattr(Asking, "targets", targets)

    async def labels(least: float) -> list[str]:
        params = {"text_prompt": "car, tree", "conf_threshold": least}
        answer = await online.post(f"{PATH}/v1/predict", json=body | {"params": params})
        return [shape["label"] for shape in answer.json()["data"]["shapes"]]

    assert [await labels(least) for least in (0.3, 0.31, 0.61)] == [["car", "tree"], ["tree"], []]


async def test_health_has_their_fields(online: httpx2.AsyncClient) -> None:
    found = (await online.get(f"{PATH}/health")).json()
    assert set(found) == {"status", "models_loaded", "timestamp"}
    assert (found["status"], found["models_loaded"]) == ("healthy", 1)


@pytest.mark.parametrize(
    ("changes", "status", "code", "said"),
    [
        ({"model": "yolo11n"}, 404, "MODEL_NOT_FOUND", "there is no model 'yolo11n'; served: tiny"),
        ({"image": "%%"}, 422, "INVALID_IMAGE", "not base64"),
        ({"image": "data:image/png;base64,AAAA"}, 422, "INVALID_IMAGE", "not a complete PNG"),
        ({"image": base64.b64encode(b"BM123456").decode()}, 422, "INVALID_IMAGE", "a BMP; allowed: PNG, JPEG, WebP"),
        ({"params": {}}, 422, "INFERENCE_ERROR", "write what to look for"),
        ({"params": {"text_prompt": ",".join(map(str, range(65)))}}, 422, "INFERENCE_ERROR", "names 65 things; allowed: 64"),
        ({"params": {"text_prompt": "car@3"}}, 404, "INFERENCE_ERROR", "there is no token 'car@3'"),
        ({"params": {"marks": [{"type": "circle", "data": [1, 2]}]}}, 422, "INFERENCE_ERROR", "params.marks.0.type"),
        ({"params": {"conf_threshold": 2}}, 422, "INFERENCE_ERROR", "params.conf_threshold"),
    ],
)
async def test_errors_are_theirs_with_our_sentences(
    online: httpx2.AsyncClient, body: Json, changes: Json, status: int, code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(x_anylabeling, "LONGEST_WAIT", 0.1)  # nobody looks at images here
    answer = await online.post(f"{PATH}/v1/predict", json=body | changes)
    assert_refused(answer, status, code, said)
    assert_refused(await online.get(f"{PATH}/v1/models/none/info"), 404, "MODEL_NOT_FOUND", "there is no model 'none'")


async def test_a_full_queue_is_a_503(settings: GatewaySettings, body: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x_anylabeling, "LONGEST_WAIT", 0.1)
    async with served(create_app(settings.model_copy(update={"max_queued": 1}))) as client:
        for _ in range(2):  # the same image is filed once
            assert_refused(await client.post(f"{PATH}/v1/predict", json=body), 409, "INFERENCE_ERROR", "ask again")
        other = base64.b64encode(base64.b64decode(body["image"].partition(",")[2]) + b"\0").decode()
        answer = await client.post(f"{PATH}/v1/predict", json=body | {"image": other})
        assert_refused(answer, 503, "QUEUE_FULL", "1 jobs are waiting already")
        assert answer.json()["detail"] == answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) > 0


async def test_the_key_is_in_the_header_token(settings: GatewaySettings, redis: Redis, worker: InTestWorker) -> None:
    del worker
    card = KeyCard(name="anne", tenant="anne", scopes=["generate", "read"], created_at=utc_now())
    key = await Keyring(redis).create(card)
    async with served(create_app(settings.model_copy(update={"keys": "required"}))) as client:
        assert (await client.get(f"{PATH}/health")).status_code == 200
        assert_refused(await client.get(f"{PATH}/v1/models"), 401, "UNAUTHORIZED", "needs an API key")
        assert_refused(await client.get(f"{PATH}/v1/models", headers={"Token": "no"}), 401, "UNAUTHORIZED", "no key")
        assert (await client.get(f"{PATH}/v1/models", headers={"Token": key})).status_code == 200
        assert (await client.get(f"{PATH}/v1/models", headers={"Authorization": f"Bearer {key}"})).status_code == 200
        assert (await client.get("/v1/jobs", headers={"Token": key})).status_code == 401  # at the tool's address alone
