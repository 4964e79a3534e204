import pytest

from contracts.errors import Code, Failure, ServiceError
from contracts.fields import Artifact
from contracts.generation import FilledCapture, GeneratedImage, GenerateRequest, GenerateResult, ImageRequest, Upload
from contracts.jobs import JobRecord, State, kind_of, new_job_id, utc_now
from contracts.optimization import OptimizeRequest
from contracts.sources import check_image, images_of

FILE = Artifact(name="image-0.png", media_type="image/png", size=1, sha256="", url="")
DRAWN = GenerateRequest(prompt="a cat")
TAKEN = ImageRequest(
    model="tiny",
    height=8,
    width=8,
    capture=FilledCapture(self_attention=False),
    upload=Upload(media_type="image/png", size=1, sha256="", height=8, width=8),
)
LEARNED = OptimizeRequest.model_construct(name="cat")
RESULT = GenerateResult(
    model="tiny",
    height=64,
    width=64,
    num_inference_steps=1,
    guidance_scale=1,
    evaluations=1,
    images=[GeneratedImage(index=0, seed=0, image=FILE, trace_bytes=1)],
)


def record(request: GenerateRequest | ImageRequest | OptimizeRequest, state: State = State.SUCCEEDED) -> JobRecord:
    return JobRecord.model_construct(
        id=new_job_id(),
        kind=kind_of(request),
        state=state,
        request=request,
        created_at=utc_now(),
        expires_at=utc_now(),
        result=RESULT if state is State.SUCCEEDED else None,
        error=Failure(code=Code.OUT_OF_MEMORY, detail="too large") if state is State.FAILED else None,
    )


@pytest.mark.parametrize("request_", [DRAWN, TAKEN])
def test_images_come_from_jobs_that_drew_or_took_them(request_: GenerateRequest | ImageRequest) -> None:
    assert images_of(record(request_), field="job_id") is RESULT


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (record(LEARNED), Code.WRONG_JOB_KIND),
        (record(DRAWN, State.EXPIRED), Code.JOB_EXPIRED),
        (record(DRAWN, State.RUNNING), Code.JOB_NOT_FINISHED),
        (record(TAKEN, State.FAILED), Code.JOB_NOT_SUCCESSFUL),
        (record(TAKEN, State.CANCELED), Code.JOB_NOT_SUCCESSFUL),
    ],
)
def test_any_other_job_is_refused_with_the_reason(found: JobRecord, code: Code) -> None:
    with pytest.raises(ServiceError) as caught:
        images_of(found, field="job_id")
    assert (caught.value.code, caught.value.field, caught.value.value) == (code, "job_id", found.id)


def test_an_image_is_one_that_the_job_has() -> None:
    check_image(RESULT, 0, "x", field="image")
    with pytest.raises(ServiceError, match="there is no image 1"):
        check_image(RESULT, 1, "x", field="image")
