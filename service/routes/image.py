"""`POST /v1/images`."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response

from contracts.schema.errors import Code
from contracts.schema.images import ImageRequest
from contracts.schema.jobs import JobRecord
from service import examples
from service.bodies import BodyRoute
from service.images import decoded
from service.openapi import SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import image as validation

router = APIRouter(tags=["jobs"], route_class=BodyRoute)


@router.post(
    "/v1/images",
    status_code=202,
    response_model=JobRecord,
    responses={
        201: example(examples.IMAGE_SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.IMAGE_QUEUED, "queued; follow `Location`"),
        **problems(
            *SUBMISSION,
            Code.PROMPT_TOO_LONG,
            Code.SIZE_NOT_DIVISIBLE,
            Code.SIZE_TOO_LARGE,
            Code.TOO_MANY_STEPS,
            Code.SELECTION_INVALID,
            Code.SETTINGS_CONTRADICT,
            Code.IMAGE_UNREADABLE,
            Code.IMAGE_TOO_LARGE,
            Code.IMAGE_UNSUPPORTED,
            Code.STORE_UNAVAILABLE,
        ),
    },
)
async def image(
    request: Annotated[ImageRequest, body(examples.IMAGE)],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Take a real image and keep its attention, so that you can ask where things are in it."""
    file = decoded(request.image, field="image")
    return await accept(
        http, request, partial(validation.filled, file=file), resources, terms, key, prefer, uploads={"image": file}
    )
