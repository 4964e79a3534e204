"""`POST /v1/attribute`."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from contracts.schema.attribute import AttributeRequest
from contracts.schema.errors import Code
from contracts.schema.jobs import JobRecord
from service import examples
from service.bodies import BodyRoute
from service.openapi import SOURCE_IMAGE, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import attribute as validation

router = APIRouter(tags=["jobs"], route_class=BodyRoute)


@router.post(
    "/v1/attribute",
    status_code=202,
    response_model=JobRecord,
    responses={
        201: example(examples.ATTRIBUTE_SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.ATTRIBUTE_QUEUED, "queued; follow `Location`"),
        **problems(
            *SUBMISSION,
            *SOURCE_IMAGE,
            Code.PROMPT_TOO_LONG,
            Code.WORD_NOT_IN_PROMPT,
            Code.UNKNOWN_TOKEN,
            Code.UNKNOWN_CLASS,
            Code.TOKEN_OF_OTHER_MODEL,
            Code.TOKEN_OF_OTHER_FAMILY,
            Code.ATTENTION_UNAVAILABLE,
            Code.EMBEDDING_OF_OTHER_WIDTH,
            Code.EMBEDDING_NOT_FINITE,
            Code.SELECTION_INVALID,
            Code.SETTINGS_CONTRADICT,
            Code.NO_SELF_ATTENTION,
            Code.NO_FEATURES,
            Code.NO_CONTRIBUTIONS,
            Code.NO_NETWORK,
            Code.NO_CLIP,
        ),
    },
)
async def attribute(
    request: Annotated[AttributeRequest, body(examples.ATTRIBUTE, together=examples.ATTRIBUTE_TOGETHER)],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Find targets in an image, as heatmaps and masks; the words need not be in the image's own prompt."""
    return await accept(http, request, validation.filled, resources, terms, key, prefer)
