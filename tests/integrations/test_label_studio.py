"""Label Studio asks for predictions: what it sends, what it gets, what it is refused."""

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.schema.access import KeyCard
from contracts.schema.jobs import utc_now
from contracts.state import keys
from contracts.state.corrections import Corrections
from contracts.state.keyring import Keyring
from service.app import create_app
from service.integrations.label_studio import config
from service.integrations.label_studio.meaning import token_name
from service.settings import GatewaySettings
from tests.integrations.theirs import CONFIG, PATH, POLYGONS, Json, asked
from tests.service.in_test_worker import InTestWorker, token
from tests.service.serving import assert_problem, served


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (asked("x", config="<View>"), "invalid-argument", "label_config"),
        (asked("x", config=""), "invalid-argument", "label_config"),
        (asked("x", config="<View><Text name='t' value='$t'/></View>"), "invalid-argument", "label_config"),
        (asked("x", config=f'<!DOCTYPE x [<!ENTITY a "b">]>{CONFIG}'), "invalid-argument", "label_config"),
        (asked("x", config=CONFIG.replace('value="Car"', 'value=""')), "invalid-argument", "label_config"),
        (asked(""), "invalid-argument", "tasks.0.data.image"),
        (asked("not an address"), "invalid-argument", "tasks.0.data.image"),
        (asked("/data/upload/7/a.png"), "invalid-argument", "tasks.0.data.image"),
        (asked("file:///etc/passwd"), "invalid-argument", "tasks.0.data.image"),
        (asked("http://127.0.0.1:6379/"), "invalid-argument", "tasks.0.data.image"),
        (asked("http://localhost/a.png"), "invalid-argument", "tasks.0.data.image"),
        (asked("http://[::ffff:10.0.0.1]/a.png"), "invalid-argument", "tasks.0.data.image"),
        (asked("data:image/png;base64,%%"), "image-unreadable", "tasks.0.data.image"),
        (asked("0" * 26), "unknown-job", "tasks.0.data.image"),
        ({"tasks": [{"id": 1}]}, "invalid-argument", "label_config"),
        ({}, "invalid-request", "tasks"),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_what_cannot_be_predicted_is_refused_with_a_reason(
    online: httpx2.AsyncClient, body: Json, code: str, field: str
) -> None:
    answer = await online.post(f"{PATH}/predict", json=body)
    assert_problem(answer, answer.status_code, code, field)


async def test_labels_stand_for_words_tokens_and_versions_of_tokens(online: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish_token(token("wheel"), token("wheel"), token(token_name("7", "Door")))
    labels = {"Wheel": "wheel", "First wheel": "wheel@1", "Door": "a door", "Seat": "seat", "Tyre": "wheel"}
    tags = "".join(f'<Label value="{name}" ovam="{wanted}"/>' for name, wanted in labels.items())
    schema = f'<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i">{tags}</BrushLabels></View>'
    ready = await online.post(f"{PATH}/setup", json={"project": 7, "schema": schema})
    assert ready.json() == {"model_version": "tiny wheel@2 wheel@1 label-studio-7-door@1"}
    assert await Corrections(worker.redis, "").home("7") is None  # it did not say where it is
    pinned = schema.replace("wheel@1", "wheel@9")
    assert_problem(await online.post(f"{PATH}/setup", json={"schema": pinned}), 404, "unknown-token")


def test_names_of_tokens_differ_as_labels_do() -> None:
    labels = ["Wheel", "front wheel", "front-wheel", "front wheel!", "車輪", "轮", "x" * 100, "x" * 99]
    names = [token_name("7", label) for label in labels]
    assert len(set(names)) == len(names)
    assert names[0] == "label-studio-7-wheel"
    assert all(len(name) <= 64 for name in names)
    assert token_name("8", "Wheel") != names[0]


def test_a_config_says_which_image_and_which_labels() -> None:
    found = config.parsed(CONFIG, field="x")
    assert (found.image, found.key) == ("image", "image")
    assert [(each.kind, each.name) for each in found.outputs] == [("brushlabels", "mask"), ("polygonlabels", "outline")]
    assert {name: label.wanted for name, label in found.labels.items()} == {"Car": "car", "A tree": "tree", "Hat": "hat"}
    alias = config.parsed(CONFIG.replace('value="Car" ovam', 'value="Car" alias="c" ovam'), field="x")
    assert "c" in alias.labels
    boxes = config.parsed(CONFIG.replace("BrushLabels", "Nothing").replace("PolygonLabels", "Nothing"), field="x")
    assert [each.kind for each in boxes.outputs] == ["rectanglelabels"]


async def test_a_key_is_the_password_and_tenants_hold(settings: GatewaySettings, worker: InTestWorker, redis: Redis) -> None:
    made = [
        await Keyring(redis).create(KeyCard(name=name, tenant=name, scopes=["generate", "read"], created_at=utc_now()))
        for name in ("anne", "bert")
    ]
    await worker.publish_token(token("car"))  # of nobody who has a key
    async with served(create_app(settings.model_copy(update={"keys": "required"}))) as client:
        body = {"project": "7", "schema": POLYGONS, "hostname": "https://anne.example", "access_token": "secret"}
        assert (await client.get(f"{PATH}/health")).status_code == 200
        refused = await client.post(f"{PATH}/setup", json=body)
        assert_problem(refused, 401, "unauthenticated")
        for wrong in (("anne", "ovam_no"), (made[0], "")):
            assert (await client.post(f"{PATH}/setup", json=body, auth=wrong)).status_code == 401
        for given in ("Basic %%%", "Basic /w=="):
            assert (await client.post(f"{PATH}/setup", json=body, headers={"Authorization": given})).status_code == 401
        ready = await client.post(f"{PATH}/setup", json=body, auth=("anybody", made[0]))
        assert (ready.status_code, ready.json()) == (200, {"model_version": "tiny"})
        assert (await client.get("/v1/jobs", auth=("anybody", made[0]))).status_code == 401  # at the tools' addresses alone
        upload = asked("/data/upload/7/a.png", config=POLYGONS)
        other = await client.post(f"{PATH}/predict", json=upload, auth=("anybody", made[1]))
        assert "has not said where it is" in assert_problem(other, 422, "invalid-argument")["detail"]
        stored = [key async for key in redis.scan_iter(keys.annotator("*", "*"))]
        assert stored == [keys.annotator("7", "anne").encode()]
