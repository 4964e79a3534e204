"""`POST /v1/jobs/{job_id}/probe`."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from contracts.errors import Code
from contracts.fields import JobId
from contracts.jobs import JobRecord
from contracts.probing import ProbeOptions, ProbeRequest
from service import examples
from service.openapi import SOURCE_IMAGE, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.submission import JSON_ONLY, IdempotencyKey, Prefer, accept
from service.validation import probing

router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/jobs/{job_id}/probe",
    status_code=202,
    response_model=JobRecord,
    dependencies=[JSON_ONLY],
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
    options: Annotated[ProbeOptions, body(examples.PROBE)],
    resources: With,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Rank words by how much a pixel or a box of one of the job's images attends to them."""
    request = ProbeRequest.model_validate({**dict(options), "job_id": job_id})
    return await accept(request, probing.checked, resources, key, prefer)
