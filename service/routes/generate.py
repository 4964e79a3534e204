"""`POST /v1/generate`."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response

from contracts.schema.errors import Code
from contracts.schema.images import GenerateRequest
from contracts.schema.jobs import JobRecord
from service import examples
from service.bodies import BodyRoute
from service.openapi import DRAWING, PICTURES, SOURCE_IMAGE, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import generate as validation
from service.validation.conditions import files_of

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
            *SOURCE_IMAGE,
            *DRAWING,
            Code.UNKNOWN_SCHEDULER,
            Code.ADAPTER_UNFIT,
            Code.SETTINGS_CONTRADICT,
            Code.SELECTION_INVALID,
            Code.WORD_NOT_IN_PROMPT,
            Code.UNKNOWN_TOKEN,
            Code.UNKNOWN_CLASS,
            Code.TOKEN_OF_OTHER_MODEL,
            Code.TOKEN_OF_OTHER_FAMILY,
            Code.ATTENTION_UNAVAILABLE,
            Code.EMBEDDING_OF_OTHER_WIDTH,
            Code.EMBEDDING_NOT_FINITE,
            Code.NO_SELF_ATTENTION,
            *PICTURES,
            Code.STORE_UNAVAILABLE,
            Code.NO_FEATURES,
            Code.NO_CONTRIBUTIONS,
            Code.NO_NETWORK,
        ),
    },
)
async def generate(
    request: Annotated[
        GenerateRequest,
        body(
            examples.GENERATE,
            watched=examples.GENERATE_WATCHED,
            from_an_image=examples.GENERATE_FROM,
            steered=examples.GENERATE_STEERED,
        ),
    ],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Generate images and keep their attention, to ask where things are in them: later, or at once with `targets`."""
    files = files_of(request)
    return await accept(http, request, partial(validation.filled, files=files), resources, terms, key, prefer, uploads=files)
