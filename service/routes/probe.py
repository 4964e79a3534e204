"""`POST /v1/jobs/{job_id}/probe`."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from contracts.schema.errors import Code
from contracts.schema.fields import JobId
from contracts.schema.jobs import JobRecord
from contracts.schema.probe import ProbeRequest
from service import examples
from service.bodies import BodyRoute
from service.openapi import SOURCE_IMAGE, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import probe as validation

router = APIRouter(tags=["jobs"], route_class=BodyRoute)


@router.post(
    "/v1/jobs/{job_id}/probe",
    status_code=202,
    response_model=JobRecord,
    responses={
        201: example(examples.PROBE_SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.PROBE_QUEUED, "queued; follow `Location`"),
        **problems(
            *SUBMISSION,
            *SOURCE_IMAGE,
            Code.REGION_OUTSIDE,
            Code.WORD_NOT_IN_PROMPT,
            Code.PROMPT_TOO_LONG,
            Code.SELECTION_INVALID,
        ),
    },
)
async def probe(
    job_id: Annotated[JobId, Path(examples=[examples.GENERATION])],
    request: Annotated[ProbeRequest, body(examples.PROBE)],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Rank words by how much a pixel or a box of one of the job's images attends to them."""
    return await accept(http, request, partial(validation.filled, job_id=job_id), resources, terms, key, prefer)
