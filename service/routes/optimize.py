"""`POST /v1/optimize`."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from contracts.schema.errors import Code
from contracts.schema.jobs import JobRecord
from contracts.schema.optimize import OptimizeRequest
from service import examples
from service.bodies import BodyRoute
from service.openapi import SOURCE_IMAGE, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import optimize as validation

router = APIRouter(tags=["jobs"], route_class=BodyRoute)


@router.post(
    "/v1/optimize",
    status_code=202,
    response_model=JobRecord,
    responses={
        201: example(examples.OPTIMIZE_SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.OPTIMIZE_QUEUED, "queued; follow `Location`"),
        **problems(
            *SUBMISSION,
            *SOURCE_IMAGE,
            Code.EXAMPLES_OF_OTHER_MODELS,
            Code.SELECTION_INVALID,
            Code.MASK_NOT_AN_IMAGE,
            Code.MASK_UNREADABLE,
            Code.MASK_EMPTY,
            Code.MASK_FULL,
            Code.IMAGE_TOO_LARGE,
            Code.PROMPT_TOO_LONG,
            Code.UNKNOWN_TOKEN,
            Code.TOKEN_OF_OTHER_MODEL,
            Code.TOKEN_OF_OTHER_FAMILY,
            Code.UNKNOWN_CLASS,
            Code.EMBEDDING_OF_OTHER_WIDTH,
            Code.EMBEDDING_NOT_FINITE,
        ),
    },
)
async def optimize(
    request: Annotated[OptimizeRequest, body(examples.OPTIMIZE)],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Learn a token of one or several classes from annotated images; attribute finds them in any image of the model."""
    return await accept(http, request, validation.filled, resources, terms, key, prefer)
