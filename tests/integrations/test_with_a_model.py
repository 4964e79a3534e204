"""Annotation tools, a real gateway and a real worker: what is predicted, where a person points, and what is learned of it."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from cvat_sdk import auto_annotation as cvat
from cvat_sdk.auto_annotation import driver
from cvat_sdk.masks import decode_mask
from PIL import Image

from ovam_client import Segment
from ovam_client.cvat import create
from service.integrations.label_studio import brush
from tests.integrations.test_fetching import answer, serving
from tests.integrations.theirs import BOXES, CONFIG, PATH, POLYGONS, Json, asked, assert_valid, happened, painted, smart

pytestmark = pytest.mark.e2e
TARGET = {"label": None, "token": "label-studio-7-car@1", "class_name": "Car", "settings": None}
X = "/integrations/x-anylabeling"


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
    jobs = await jobs_of(tiny)
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
    kinds = [job["kind"] for job in await jobs_of(tiny)]
    assert (kinds.count("image"), kinds.count("probe")) == (1, 1)  # it was looked at once; the place said which label


async def test_files_of_label_studio_are_fetched_with_its_token(tiny: httpx2.AsyncClient, photograph: Path) -> None:
    async with serving(**{"data/upload/9/a.png": answer(base64.b64decode(inline(photograph).partition(",")[2]))}) as files:
        connected = {"project": "9.1", "schema": POLYGONS, "hostname": files.url, "access_token": "theirs"}
        assert (await tiny.post(f"{PATH}/setup", json=connected)).status_code == 200
        body = asked("/data/upload/9/a.png", config=POLYGONS) | {"project": "9.1"}
        (found,) = await predictions(tiny, body)
        assert_valid([found], POLYGONS)
        assert "Authorization: Token theirs\r\n" in files.asked[0]
        assert "*/*" in files.asked[0].partition("Accept: ")[2].partition("\r\n")[0], "or Label Studio answers 406"
        (other,) = await predictions(tiny, asked(inline(photograph), config=POLYGONS))
        assert [each["value"] for each in other["result"]] == [each["value"] for each in found["result"]]


async def test_our_own_images_are_asked_by_their_own_trace(tiny: httpx2.AsyncClient) -> None:
    before = await jobs_of(tiny)
    request = {"prompt": "a car", "seed": 1, "num_inference_steps": 2, "num_images": 2}
    job = (await tiny.post("/v1/generate", json=request, headers={"Prefer": "wait=60"})).json()
    url = job["result"]["images"][1]["image"]["url"]
    found = await predictions(tiny, asked(job["id"], f"{job['id']}/1", f"http://anywhere.example{url}", config=POLYGONS))
    assert_valid(found, POLYGONS)
    assert found[1]["result"][0]["value"] == found[2]["result"][0]["value"]
    assert {each["original_width"] for each in found[0]["result"]} == {job["result"]["width"]}
    kinds = [each["kind"] for each in await jobs_of(tiny)][: -len(before)]
    assert sorted(kinds) == ["attribute", "attribute", "generate"]  # nothing was taken for a photograph, nothing asked twice
    (boxed,) = await predictions(tiny, asked(job["id"], config=BOXES))
    assert_valid([boxed], BOXES)
    assert boxed["result"][0]["type"] == "rectanglelabels"
    answers = await predictions(tiny, asked(job["id"], "0" * 26))
    assert "result" in answers[0]
    assert "unknown-job" in answers[1]["error"]
    assert "result" not in answers[1]  # Label Studio skips it, and keeps the other


async def test_a_correction_is_learned_and_the_next_prediction_uses_it(tiny: httpx2.AsyncClient, photograph: Path) -> None:
    image = inline(photograph)
    mask = np.zeros((80, 96), np.bool_)
    mask[10:50, 20:70] = True
    region = painted(mask, brush.encoded(mask), "Car")
    answer = await tiny.post(f"{PATH}/webhook", json=happened("ANNOTATION_CREATED", image, region))
    assert answer.status_code == 201, answer.text
    token, job = await learned(tiny, "label-studio-7-car", 1)
    assert job["request"]["examples"][0]["mask"]["size"] == [80, 96]
    assert job["request"]["initial"] == [{"word": "car"}]
    assert token["classes"] == ["Car"]

    ready = await tiny.post(f"{PATH}/setup", json={"project": "7.1763805000", "schema": CONFIG})
    assert ready.json() == {"model_version": "tiny label-studio-7-car@1"}
    (found,) = await predictions(tiny, asked(image))
    assert_valid([found])
    assert found["model_version"] == "tiny label-studio-7-car@1"
    newest = await job_of(tiny, (await jobs_of(tiny, "attribute"))[0]["id"])
    assert newest["request"]["targets"][0]["target"] | {"settings": None} == TARGET


async def jobs_of(client: httpx2.AsyncClient, kind: str | None = None) -> list[Json]:
    """The jobs, newest first."""
    params = {"limit": 100, **({"kind": kind} if kind else {})}
    return (await client.get("/v1/jobs", params=params)).json()["jobs"]


async def job_of(client: httpx2.AsyncClient, job_id: str) -> Json:
    return (await client.get(f"/v1/jobs/{job_id}")).json()


async def learned(client: httpx2.AsyncClient, name: str, version: int) -> tuple[Json, Json]:
    """A token, as soon as it is there, and its job."""
    async with asyncio.timeout(90):
        while (answer := await client.get(f"/v1/tokens/{name}@{version}")).status_code != 200:
            await asyncio.sleep(0.05)
    return answer.json(), await job_of(client, answer.json()["job_id"])


async def test_x_anylabeling_outlines_what_is_written(tiny: httpx2.AsyncClient, photograph: Path) -> None:
    models = (await tiny.get(f"{X}/v1/models")).json()
    assert list(models["data"]) == ["tiny"]
    assert models["data"]["tiny"]["batch_processing_mode"] == "text_prompt"
    info = (await tiny.get(f"{X}/v1/models/tiny/info")).json()
    assert info == {"success": True, "data": {"model_id": "tiny", **models["data"]["tiny"]}}
    params: Json = {"conf_threshold": 0.0, "iou_threshold": 0.0, "epsilon_factor": 0.001, "text_prompt": "car, tree"}
    body = {"model": "tiny", "image": inline(photograph), "params": params}
    shapes = await outlined(tiny, body)
    assert {shape["label"] for shape in shapes} == {"car", "tree"}
    for shape in shapes:
        assert shape["shape_type"] == "polygon"
        assert shape["points"][0] == shape["points"][-1]
        assert 0 <= shape["score"] <= 1
        corners = np.array(shape["points"])
        assert corners.min() >= 0
        assert (corners.max(axis=0) <= (95, 79)).all()
    right = {"type": "rectangle", "data": [48, 0, 96, 80], "label": 1}
    boxed = await outlined(tiny, body | {"params": params | {"marks": [right]}})
    assert all(x >= 48 for shape in boxed for x, _ in shape["points"])
    raw = body | {"image": inline(photograph).partition(",")[2]}
    assert await outlined(tiny, raw) == shapes


async def outlined(client: httpx2.AsyncClient, body: Json) -> list[Json]:
    answer = await client.post(f"{X}/v1/predict", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    return answer.json()["data"]["shapes"]


async def test_cvat_s_driver_takes_what_the_function_finds(
    tiny: httpx2.AsyncClient, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def annotated(*, poly: bool, least: float | None = None) -> list[Any]:
        """What `annotate_task` does for each frame."""
        function = create("Car=car, tree", url=str(tiny.base_url))
        kind = "polygon" if poly else "mask"
        labels: Any = [
            cvat.label_spec(name, 10 + number, type=kind, sublabels=[], attributes=[])
            for number, name in enumerate(("tree", "Car"))
        ]
        mapper = driver._AnnotationMapper(
            None,
            function.spec.labels,
            labels,
            allow_unmatched_labels=False,
            conv_mask_to_poly=poly,  # type: ignore[bad-argument-type]
        )
        context = driver._DetectionFunctionContextImpl(frame_name="1.png", conf_threshold=least, conv_mask_to_poly=poly)
        with function.client, Image.open(photograph) as image:
            return mapper.validate_and_remap(function.detect(context, image), 4)[1]

    masks = await asyncio.to_thread(annotated, poly=False)
    assert [(shape.label_id, shape.type.value, shape.frame) for shape in masks] == [(11, "mask", 4), (10, "mask", 4)]
    assert all(decode_mask(shape.points, image_width=96, image_height=80).any() for shape in masks)
    polygons = await asyncio.to_thread(annotated, poly=True)
    assert {(shape.label_id, shape.type.value) for shape in polygons} == {(11, "polygon"), (10, "polygon")}
    assert all(0 <= x <= 96 for shape in polygons for x in shape.points[::2])
    monkeypatch.setattr(Segment, "confidence", 0.4)
    assert len(await asyncio.to_thread(annotated, poly=False, least=0.4)) == 2
    assert await asyncio.to_thread(annotated, poly=False, least=0.5) == []
