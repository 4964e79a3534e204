"""`POST /v1/optimize`."""

from typing import Annotated

from fastapi import APIRouter, Response

from contracts.errors import Code
from contracts.jobs import JobRecord
from contracts.optimization import OptimizeRequest
from service import examples
from service.openapi import SOURCE_IMAGE, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import JSON_ONLY, IdempotencyKey, Prefer, accept
from service.validation import optimization

router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/optimize",
    status_code=202,
    response_model=JobRecord,
    dependencies=[JSON_ONLY],
    responses={
        201: example(examples.OPTIMIZE_SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.OPTIMIZE_QUEUED, "queued; follow `Location`"),
        **problems(
            *SUBMISSION,
            *SOURCE_IMAGE,
            Code.EXAMPLES_OF_OTHER_MODELS,
            Code.MASK_NOT_AN_IMAGE,
            Code.MASK_UNREADABLE,
            Code.MASK_EMPTY,
            Code.MASK_FULL,
            Code.IMAGE_TOO_LARGE,
            Code.PROMPT_TOO_LONG,
            Code.UNKNOWN_TOKEN,
            Code.TOKEN_OF_OTHER_MODEL,
            Code.UNKNOWN_CLASS,
            Code.EMBEDDING_OF_OTHER_WIDTH,
            Code.EMBEDDING_NOT_FINITE,
        ),
    },
)
async def optimize(
    request: Annotated[OptimizeRequest, body(examples.OPTIMIZE)],
    resources: With,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Learn a token of one or several classes from annotated images; attribute finds them in any image of the model."""
    return await accept(request, optimization.checked, resources, key, prefer)
