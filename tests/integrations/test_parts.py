"""What annotation tools send and get, part by part: regions, marks, outlines, labels, errors, and the bounds of all of them."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from contracts.schema.errors import Code, ServiceError
from contracts.schema.targets import TokenTarget, WordsTarget
from contracts.state.registry import Registry
from ovam.core.coco import fill_polygons
from service.integrations import x_anylabeling, x_errors
from service.integrations.asking import Found, Picture, enlarged
from service.integrations.guided import Place
from service.integrations.label_studio import brush
from service.integrations.label_studio.config import Control, Label, parsed
from service.integrations.label_studio.meaning import Meaning, meaning_of, token_name
from service.integrations.label_studio.predicting import combined
from service.integrations.label_studio.regions import drawn, label_of, mask_of, places_of
from service.integrations.label_studio.shapes import Context, Predict, Region, Setup, Task
from service.integrations.x_shapes import Mark, PredictRequest, Shape
from tests.integrations.theirs import CONFIG, smart
from tests.service.in_test_worker import InTestWorker, token

SIZE = (8, 12)
MASK = np.zeros(SIZE, np.bool_)
MASK[2:4, 3:9] = True
PICTURE = Picture("0" * 26, 0, "tiny", SIZE, (80, 120))


def region(kind: str, size: tuple[int, int] = SIZE, **value: object) -> Region:
    return Region(type=kind, original_height=size[0], original_width=size[1], value=value)


@pytest.mark.parametrize("kind", ["brushlabels", "polygonlabels", "rectanglelabels"])
def test_what_is_drawn_of_a_mask_is_read_as_that_mask(kind: str) -> None:
    (found,) = drawn(Found(0.5, MASK), "Car", Control(kind, "it", ()), "image")
    assert (found["from_name"], found["to_name"], found["score"], found["value"][kind]) == ("it", "image", 0.5, ["Car"])
    again = Region.model_validate(found)
    assert label_of(again) == "Car"
    assert np.array_equal(mask_of(again), MASK)
    assert [*drawn(Found(0.5, MASK & False), "Car", Control(kind, "it", ()), "image")] == []


def test_a_box_is_told_in_percent_with_four_digits() -> None:
    (found,) = drawn(Found(1.0, MASK), "Car", Control("rectanglelabels", "it", ()), "image")
    sides = {name: found["value"][name] for name in ("x", "y", "width", "height")}
    assert sides == {"x": 25, "y": 25, "width": 50, "height": 25}
    (thirds,) = drawn(
        Found(1.0, np.ones((3, 3), np.bool_) & (np.arange(3) > 0)), "Car", Control("rectanglelabels", "it", ()), "i"
    )
    assert (thirds["value"]["x"], thirds["value"]["width"]) == (33.3333, 66.6667)


TRIANGLE = [[0, 0], [100, 0], [0, 100]]


@pytest.mark.parametrize(
    ("kind", "size", "value"),
    [
        ("brushlabels", (0, 12), {"rle": []}),
        ("rectanglelabels", (5001, 5000), {"x": 0, "y": 0, "width": 1, "height": 1}),
        ("polygonlabels", (-8, 12), {"points": TRIANGLE}),
        ("polygonlabels", SIZE, {"points": TRIANGLE[:2]}),
        ("polygonlabels", SIZE, {"points": [[0, 0], [float("nan"), 0], [0, 9]]}),
        ("polygonlabels", SIZE, {"points": [[0, 0], [1001, 0], [0, 9]]}),
        ("polygonlabels", SIZE, {"points": [[0, 0], [1, "x"], [0, 9]]}),
        ("polygonlabels", SIZE, {"points": [[0, 0]] * 20_001}),
        ("brushlabels", SIZE, {"rle": [256]}),
        ("brushlabels", SIZE, {"rle": "no list"}),
    ],
)
def test_what_is_no_mask_is_refused(kind: str, size: tuple[int, int], value: dict[str, object]) -> None:
    with pytest.raises(ServiceError) as refused:
        mask_of(region(kind, size, **value))
    assert refused.value.code == "mask-unreadable"


def test_a_polygon_is_filled_and_corners_outside_are_moved_inside() -> None:
    assert np.array_equal(
        mask_of(region("polygonlabels", points=TRIANGLE)), fill_polygons([[0.0, 0.0, 12.0, 0.0, 0.0, 8.0]], SIZE)
    )
    outside = [[-100, -100], [1000, -100], [1000, 1000], [-100, 1000]]
    assert mask_of(region("polygonlabels", points=outside)).all()
    assert mask_of(region("keypointlabels", x=1, y=1)) is None


def test_points_and_boxes_of_smart_tools_are_places() -> None:
    given = [
        smart("keypointlabels", 50, 50, "Car", width=3.0),
        smart("rectanglelabels", 25, 50, "Car", positive=False, width=50.0, height=25.0),
        smart("keypoint", 0, 0) | {"is_positive": None},
        smart("brushlabels", 0, 0),
    ]
    assert [*places_of([Region.model_validate(each) for each in given], SIZE)] == [
        Place((6, 4, 1, 1)), Place((3, 4, 6, 2), wanted=False), Place((0, 0, 1, 1)),
    ]  # fmt: skip
    for wrong in ("1", None, 1001, float("nan")):
        with pytest.raises(ServiceError, match="a number of percent") as refused:
            [*places_of([region("keypoint", x=wrong, y=0)], SIZE)]
        assert (refused.value.code, refused.value.field) == ("invalid-argument", "value.x")


def test_a_control_draws_the_labels_that_it_has_and_there_may_be_sixty_four() -> None:
    config = parsed(CONFIG, field="x")
    assert [getattr(config.drawn_by(name), "name", None) for name in ("Car", "Hat", "Dog")] == ["mask", "outline", None]
    for count, allowed in ((64, True), (65, False)):
        labels = "".join(f'<Label value="l{number}"/>' for number in range(count))
        text = f'<View><Image name="i" value="$i"/><BrushLabels name="b" toName="a, i">{labels}</BrushLabels></View>'
        if allowed:
            assert len(parsed(text, field="x").labels) == count
        else:
            with pytest.raises(ServiceError, match="has 65 labels; allowed: 64"):
                parsed(text, field="x")


def test_what_a_label_stands_for_may_be_as_long_as_a_word_of_a_target() -> None:
    for length, allowed in ((2000, True), (2001, False)):
        text = CONFIG.replace('ovam="hat"', f'ovam="{"a" * length}"')
        if allowed:
            assert "a" * length in [each.wanted for each in parsed(text, field="x").labels.values()]
        else:
            with pytest.raises(ServiceError, match="whose `ovam` is longer than 2000 characters"):
                parsed(text, field="x")


async def test_a_label_is_a_word_until_a_token_of_the_pictures_model_is_learned(worker: InTestWorker, redis: Redis) -> None:
    label, name = Label("Door", "a door"), token_name("7", "Door")
    assert (await meaning_of(label, "7", None, Registry(redis))).target == WordsTarget(word="a door")
    await worker.publish_token(token(name, classes=("Door",)))
    target = TokenTarget(token=f"{name}@1", class_name="Door")
    assert [(await meaning_of(label, "7", model, Registry(redis))).target for model in (None, "tiny")] == [target, target]
    assert await meaning_of(label, "7", "another", Registry(redis)) == Meaning(label, None, name)
    assert token_name("p" * 40, "l" * 60).startswith(f"label-studio-{'p' * 16}-{'l' * 32}-")


def test_a_prediction_holds_what_is_found_and_how_sure_that_is() -> None:
    meanings = [Meaning(Label(name, name), None, None) for name in ("Car", "A tree", "Hat", "Dog")]
    found = [Found(0.5, MASK), Found(0.1, MASK & False), Found(1.0, MASK), Found(0.2, MASK)]
    prediction = combined(meanings, found, parsed(CONFIG, field="x"))
    assert [each["from_name"] for each in prediction["result"]] == ["mask", "outline"]
    assert prediction["score"] == 0.75
    assert combined(meanings[1:2], found[1:2], parsed(CONFIG, field="x")) == {"score": 0.0, "result": []}


def test_a_mask_is_enlarged_to_what_the_tool_shows() -> None:
    large = enlarged(MASK, (16, 24))
    assert np.array_equal(large[::2, ::2] | large[1::2, 1::2], MASK)
    assert enlarged(MASK, SIZE) is MASK


def test_brush_data_is_read_to_its_last_bit_and_no_further() -> None:
    head = "00111" + "0010001101111111"
    words = "".join(f"{value:08b}" for value in (0, 0, 0, 255))
    bits = f"{4:032b}" + head + "0" + "10" + f"{4 - 1:08b}" + words  # not repeated; a length of 8 bits
    assert len(bits) % 8 == 0
    data = int(bits, 2).to_bytes(len(bits) // 8)
    assert brush.decoded(data, (1, 1)).tolist() == [[True]]
    with pytest.raises(ServiceError, match="ends too early"):
        brush.decoded(data[:-1], (1, 1))
    for count, size in ((0, (0, 5)), (4 * 5001 * 5000, (5001, 5000))):
        with pytest.raises(ServiceError, match="words of 8 bits for"):
            brush.decoded(int(f"{count:032b}{head}000", 2).to_bytes(7), size)


def test_marks_are_places_in_the_pixels_of_the_job() -> None:
    marks = [Mark(type="point", data=[60, 40]), Mark(type="rectangle", data=[90, 60, 30, 40], label=0)]
    assert [*x_anylabeling.places_of(marks, PICTURE)] == [Place((6, 4, 1, 1)), Place((3, 4, 6, 2), wanted=False)]
    for wrong in (Mark(type="point", data=[1, 2, 3, 4]), Mark(type="rectangle", data=[1, 2])):
        with pytest.raises(ServiceError, match="allowed: 2 for a point, 4 for a rectangle"):
            [*x_anylabeling.places_of([wrong], PICTURE)]


def test_outlines_come_largest_first_closed_and_simplified() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[30:36, 2:8] = True
    mask[2:20, 10:50] = True
    mask[2, 30] = False  # a dent
    mask[39, 59] = True  # a pixel has no outline
    fine, coarse = ([*x_anylabeling.outlined("car", Found(0.5, mask), epsilon)] for epsilon in (0.0, 0.05))
    assert [each.points[0] == each.points[-1] for each in fine] == [True, True]
    assert (len(coarse), len(coarse[0].points), len(coarse[1].points)) == (2, 5, 5)
    assert len(fine[0].points) > 5
    assert {x for x, _ in coarse[0].points} == {10, 49}
    assert json.loads(fine[0].model_dump_json()) | {"points": []} == {
        "label": "car", "shape_type": "polygon", "points": [], "score": 0.5, "attributes": {}, "description": None,
        "difficult": False, "direction": 0.0, "flags": None, "group_id": None, "kie_linking": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "status", "name", "answered"),
    [
        (Code.QUEUE_LIMIT, 429, "QUEUE_FULL", 503),
        (Code.INTERNAL, 500, "INFERENCE_ERROR", 500),
        (Code.UNKNOWN_MODEL, 404, "MODEL_NOT_FOUND", 404),
    ],
)
@pytest.mark.parametrize("headers", [None, {"retry-after": "3"}])
def test_an_error_is_that_servers(code: Code, status: int, name: str, answered: int, headers: dict[str, str] | None) -> None:
    answer = x_errors.response(code, "it", status, headers)
    error = {"code": name, "message": "it", "details": {"code": code}}
    assert json.loads(answer.body) == {"success": False, "error": error, "detail": "it"}
    assert (answer.status_code, answer.headers.get("retry-after")) == (answered, None if headers is None else "3")


X_BASE: dict[str, Any] = {"model": "tiny", "image": "QUJD", "news": 1}


def params(**given: object) -> tuple[Any, dict[str, Any]]:
    return PredictRequest, X_BASE | {"params": given | {"news": 1}}


def marked(*numbers: float) -> tuple[Any, dict[str, Any]]:
    return params(marks=[{"type": "point", "data": numbers, "news": 1}])


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (params(marks=[{"type": "point", "data": [1, 2]}] * 100), params(marks=[{"type": "point", "data": [1, 2]}] * 101)),
        (marked(1e6, -1e6), marked(1.1e6, 0)),
        (marked(1, 2, 3, 4), marked(1, 2, 3, 4, 5)),
        (marked(1, 2), marked(1)),
        ((PredictRequest, X_BASE | {"image": "x"}), (PredictRequest, X_BASE | {"image": ""})),
        (params(epsilon_factor=0.0), params(epsilon_factor=-0.1)),
        (params(epsilon_factor=1.0), params(epsilon_factor=1.1)),
        (params(text_prompt="x" * 2000), params(text_prompt="x" * 2001)),
        ((Context, {"result": [{"news": 1}] * 1000}), (Context, {"result": [{}] * 1001})),
        ((Predict, {"tasks": [{"id": 3}] * 256}), (Predict, {"tasks": [{}] * 257})),
        ((Setup, {"hostname": "x" * 2000}), (Setup, {"hostname": "x" * 2001})),
        ((Setup, {"project": "p" * 40}), (Setup, {"project": "p" * 41})),
    ],
)
def test_what_tools_send_has_bounds(allowed: tuple[Any, Any], refused: tuple[Any, Any]) -> None:
    allowed[0].model_validate_json(json.dumps(allowed[1]))
    with pytest.raises(ValidationError):
        refused[0].model_validate_json(json.dumps(refused[1]))


def test_what_tools_leave_out_has_a_meaning() -> None:
    setup = Setup.model_validate({"project": 12.17, "hostname": None, "access_token": "t", "schema": None})
    assert (setup.project, setup.hostname, setup.access_token, setup.config) == ("12", "", "t", "")
    assert Setup.model_validate({"schema": "<View/>"}).config == "<View/>"
    assert [Task.model_validate({"id": number}).id for number in (3, 3.5, "x")] == ["3", "3.5", "x"]
    assert Setup.model_validate({"hostname": "https://studio"}).hostname == "https://studio"
    with pytest.raises(ServiceError, match="is of 0 x 0 pixels"):
        mask_of(Region(type="brushlabels"))
    given = PredictRequest.model_validate(X_BASE).params
    assert (given.conf_threshold, given.epsilon_factor) == (0.0, 0.001)
    assert not Shape(label="x", points=[], score=1).difficult
