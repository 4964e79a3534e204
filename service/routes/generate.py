"""`POST /v1/generate`."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from contracts.schema.errors import Code
from contracts.schema.images import GenerateRequest
from contracts.schema.jobs import JobRecord
from service import examples
from service.bodies import BodyRoute
from service.openapi import SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import generate as validation

router = APIRouter(tags=["jobs"], route_class=BodyRoute)


@router.post(
    "/v1/generate",
    status_code=202,
    response_model=JobRecord,
    responses={
        201: example(examples.SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.QUEUED, "queued; follow `Location`"),
        **problems(
            *SUBMISSION,
            Code.PROMPT_TOO_LONG,
            Code.SIZE_NOT_DIVISIBLE,
            Code.SIZE_TOO_LARGE,
            Code.TOO_MANY_STEPS,
            Code.TOO_MANY_IMAGES,
            Code.UNKNOWN_SCHEDULER,
            Code.SETTINGS_CONTRADICT,
            Code.SELECTION_INVALID,
            Code.WORD_NOT_IN_PROMPT,
            Code.UNKNOWN_TOKEN,
            Code.UNKNOWN_CLASS,
            Code.TOKEN_OF_OTHER_MODEL,
            Code.EMBEDDING_OF_OTHER_WIDTH,
            Code.EMBEDDING_NOT_FINITE,
            Code.NO_SELF_ATTENTION,
            Code.NO_FEATURES,
            Code.NO_NETWORK,
        ),
    },
)
async def generate(
    request: Annotated[GenerateRequest, body(examples.GENERATE, watched=examples.GENERATE_WATCHED)],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Generate images and keep their attention, to ask where things are in them: later, or at once with `targets`."""
    return await accept(http, request, validation.filled, resources, terms, key, prefer)
