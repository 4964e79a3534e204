"""Label Studio asks for predictions: what it sends, what it gets, what it is refused."""

import base64
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from contracts.state import keys
from service.integrations.label_studio import brush, config
from service.integrations.label_studio.meaning import token_name
from tests.integrations.theirs import CONFIG, PATH, Json, asked, assert_valid, smart
from tests.service.in_test_worker import InTestWorker, token
from tests.service.serving import assert_problem

POLYGONS = """<View><Image name="image" value="$image"/>
<PolygonLabels name="outline" toName="image"><Label value="Car" ovam="car"/></PolygonLabels></View>"""
BOXES = POLYGONS.replace("PolygonLabels", "RectangleLabels")


def inline(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


async def predictions(client: httpx2.AsyncClient, body: Json) -> list[Json]:
    answer = await client.post(f"{PATH}/predict", json=body, timeout=100)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def masks_of(prediction: Json) -> dict[str, np.ndarray]:
    """The brush masks of a prediction by label."""
    return {
        each["value"]["brushlabels"][0]: brush.decoded(
            bytes(each["value"]["rle"]), (each["original_height"], each["original_width"])
        )
        for each in prediction["result"]
        if each["type"] == "brushlabels"
    }


async def test_labels_are_found_in_a_photograph_and_where_a_person_points(tiny: httpx2.AsyncClient, photograph: Path) -> None:
    assert (await tiny.get(f"{PATH}/health")).json()["status"] == "UP"
    ready = await tiny.post(f"{PATH}/setup", json={"project": "7.1763805000", "schema": CONFIG, "extra_params": None})
    assert ready.json() == {"model_version": "tiny"}

    image = inline(photograph)
    (found,) = await predictions(tiny, asked(image))
    assert_valid([found])
    assert found["model_version"] == "tiny"
    assert 0 < found["score"] <= 1
    labels = {next(iter(v)) for each in found["result"] for k, v in each["value"].items() if k.endswith("labels")}
    assert labels == {"Car", "A tree", "Hat"}  # and nothing that is for people alone
    whole = masks_of(found)["Car"]
    assert whole.shape == (80, 96)  # as the tool shows it, not as the model saw it
    jobs = (await tiny.get("/v1/jobs")).json()["jobs"]
    assert sorted(job["kind"] for job in jobs) == ["attribute", "image"]

    y, x = (int(place) for place in np.argwhere(whole)[0])
    point = smart("keypointlabels", 100 * (x + 0.5) / 96, 100 * (y + 0.5) / 80, "Car", width=0.3)
    (pointed,) = await predictions(tiny, asked(image, context=[point]))
    assert_valid([pointed])
    assert list(masks_of(pointed)) == ["Car"]
    part = masks_of(pointed)["Car"]
    assert part[y, x]
    assert not (part & ~whole).any()

    box = smart("rectanglelabels", 0, 0, "Car", width=50.0, height=100.0)
    (boxed,) = await predictions(tiny, asked(image, context=[box]))
    assert not masks_of(boxed)["Car"][:, 50:].any()

    bare = smart("keypoint", 100 * (x + 0.5) / 96, 100 * (y + 0.5) / 80)
    (probed,) = await predictions(tiny, asked(image, context=[bare]))
    assert_valid([probed])
    kinds = [job["kind"] for job in (await tiny.get("/v1/jobs")).json()["jobs"]]
    assert (kinds.count("image"), kinds.count("probe")) == (1, 1)  # it was looked at once; the place said which label


async def test_our_own_images_are_asked_by_their_own_trace(tiny: httpx2.AsyncClient) -> None:
    request = {"prompt": "a car", "seed": 1, "num_inference_steps": 2, "num_images": 2}
    job = (await tiny.post("/v1/generate", json=request, headers={"Prefer": "wait=60"})).json()
    url = job["result"]["images"][1]["image"]["url"]
    found = await predictions(tiny, asked(job["id"], f"{job['id']}/1", f"http://anywhere.example{url}", config=POLYGONS))
    assert_valid(found, POLYGONS)
    assert found[1]["result"][0]["value"] == found[2]["result"][0]["value"]
    assert {each["original_width"] for each in found[0]["result"]} == {job["result"]["width"]}
    kinds = [each["kind"] for each in (await tiny.get("/v1/jobs")).json()["jobs"]]
    assert sorted(kinds) == ["attribute", "attribute", "generate"]  # nothing was taken for a photograph, nothing asked twice
    (boxed,) = await predictions(tiny, asked(job["id"], config=BOXES))
    assert_valid([boxed], BOXES)
    assert boxed["result"][0]["type"] == "rectanglelabels"
    answers = await predictions(tiny, asked(job["id"], "0" * 26))
    assert "result" in answers[0]
    assert "unknown-job" in answers[1]["error"]
    assert "result" not in answers[1]  # Label Studio skips it, and keeps the other


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
    labels = {"Wheel": "wheel", "First wheel": "wheel@1", "Door": "a door", "Seat": "seat"}
    tags = "".join(f'<Label value="{name}" ovam="{wanted}"/>' for name, wanted in labels.items())
    schema = f'<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i">{tags}</BrushLabels></View>'
    ready = await online.post(f"{PATH}/setup", json={"project": 7, "schema": schema})
    assert ready.json() == {"model_version": "tiny wheel@2 wheel@1 label-studio-7-door@1"}
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


async def test_a_key_is_the_password_and_tenants_hold(settings: Any, worker: InTestWorker, redis: Any) -> None:
    from contracts.schema.access import KeyCard  # noqa: PLC0415
    from contracts.schema.jobs import utc_now  # noqa: PLC0415
    from contracts.state.keyring import Keyring  # noqa: PLC0415
    from service.app import create_app  # noqa: PLC0415
    from tests.service.serving import served  # noqa: PLC0415

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
