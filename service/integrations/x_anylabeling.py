"""`/integrations/x-anylabeling`: the contract of X-AnyLabeling-Server, for the desktop program X-AnyLabeling.

It is not in the API's own description: the contract is that project's. How its errors look is in `x_errors.py`.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Path

from contracts.schema.attribute import MAX_TARGETS
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Name
from contracts.schema.models import ModelCard
from contracts.schema.targets import Target, TokenTarget, WordsTarget
from contracts.state.registry import Registry
from service.bodies import BodyRoute
from service.images import decoded
from service.integrations.asking import Asking, Found, Picture, token_named
from service.integrations.guided import Place, place
from service.integrations.x_shapes import Mark, Params, PredictRequest, Shape
from service.resources import With

LONGEST_WAIT = 25.0  # seconds: X-AnyLabeling waits for 30
DATA_URI = re.compile(r"data:[\w/.+-]*;base64,")
CORNERS = 3  # the least of an outline
BOX = 4  # numbers
WIDGETS = (  # what the program shows for the model, with its first value
    ("edit_text", None),
    ("button_send", None),
    ("add_point", None),
    ("add_pos_rect", None),
    ("add_neg_rect", None),
    ("button_run_rect", None),
    ("button_clear", None),
    ("button_finish_object", None),
    ("input_conf", None),
    ("edit_conf", 0.0),
    ("mask_fineness_slider", 1),
    ("mask_fineness_value_label", None),
    ("toggle_preserve_existing_annotations", False),
)
router = APIRouter(prefix="/integrations/x-anylabeling", route_class=BodyRoute, include_in_schema=False)


@router.get("/health")
async def x_anylabeling_health(resources: With) -> dict[str, Any]:
    """Say how many models are served."""
    count = len(await resources.catalog.models())
    return {"status": "healthy", "models_loaded": count, "timestamp": datetime.now(UTC).isoformat()}


@router.get("/v1/models")
async def x_anylabeling_models(resources: With) -> dict[str, Any]:
    """List the models, and what the program shows for each."""
    return {"success": True, "data": {card.name: described(card) for card in await resources.catalog.models()}}


@router.get("/v1/models/{model_id}/info")
async def x_anylabeling_model(model_id: Annotated[Name, Path()], resources: With) -> dict[str, Any]:
    """Describe a model."""
    card = await resources.catalog.model(model_id)
    return {"success": True, "data": {"model_id": card.name, **described(card)}}


@router.post("/v1/predict")
async def x_anylabeling_predict(request: PredictRequest, resources: With) -> dict[str, Any]:
    """Outline words or learned tokens in an image; with points and boxes, what is there."""
    card = await resources.catalog.model(request.model)
    texts = texts_of(request.params)
    targets = [await target_of(text, resources.catalog.registry) for text in texts]
    asking = Asking(resources, LONGEST_WAIT)
    uri = DATA_URI.match(request.image)
    picture = await asking.file(decoded(request.image[uri.end() if uri else 0 :], field="image"), card.name)
    found = await asking.targets(picture, targets, [*places_of(request.params.marks, picture)])
    sure = [(text, each) for text, each in zip(texts, found, strict=True) if each.score >= request.params.conf_threshold]
    shapes = [shape for text, each in sure for shape in outlined(text, each, request.params.epsilon_factor)]
    answer = {"shapes": [shape.model_dump() for shape in shapes], "description": "", "replace": not request.params.marks}
    return {"success": True, "data": answer}


def described(card: ModelCard) -> dict[str, Any]:
    """A model as X-AnyLabeling shows it."""
    return {
        "display_name": f"OVAM ({card.name})",
        "widgets": [{"name": name, "value": value} for name, value in WIDGETS],
        "params": {"conf_threshold": 0.0, "epsilon_factor": 0.001},
        "batch_processing_mode": "text_prompt",
    }


def texts_of(params: Params) -> list[str]:
    """What to look for. ServiceError (invalid-argument) for nothing, and for too much."""
    texts = list(dict.fromkeys(part for each in re.split(r",|\.(?:\s|$)", params.text_prompt) if (part := each.strip())))
    if not texts:
        detail = "`params.text_prompt` is empty: write what to look for, as `car, wheel`, or the name of a learned token"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="params.text_prompt", value="")
    if len(texts) > MAX_TARGETS:
        detail = f"`params.text_prompt` names {len(texts)} things; allowed: {MAX_TARGETS}"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="params.text_prompt", value=params.text_prompt[:100])
    return texts


async def target_of(text: str, registry: Registry) -> Target:
    """What a text stands for: a learned token of this name, or the words."""
    token = await token_named(text, registry)
    return WordsTarget(word=text) if token is None else TokenTarget(token=token.reference)


def places_of(marks: list[Mark], picture: Picture) -> Iterator[Place]:
    """The marks, as places in the image of the job."""
    height, width = picture.shown
    for mark in marks:
        x, y, *corner = mark.data
        if len(mark.data) != (BOX if mark.type == "rectangle" else 2):
            detail = f"a {mark.type} in `params.marks` has {len(mark.data)} numbers; allowed: 2 for a point, 4 for a rectangle"
            raise ServiceError(Code.INVALID_ARGUMENT, detail, field="params.marks")
        right, bottom = corner or (x, y)
        left, top = min(x, right), min(y, bottom)
        extent = (abs(right - x) / width, abs(bottom - y) / height)
        yield place(left / width, top / height, *extent, picture.traced, wanted=mark.label == 1)


def outlined(text: str, found: Found, epsilon_factor: float) -> Iterator[Shape]:
    """The outer outlines of a mask, the largest first, each simplified to a part of its length."""
    rings, _ = cv2.findContours(found.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for ring in sorted(rings, key=cv2.contourArea, reverse=True):
        corners = cv2.approxPolyDP(ring, epsilon_factor * cv2.arcLength(ring, closed=True), closed=True)[:, 0]
        if len(corners) >= CORNERS:
            points = [(float(x), float(y)) for x, y in [*corners, corners[0]]]
            yield Shape(label=text, points=points, score=found.score)
