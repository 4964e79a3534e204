import pytest

from contracts.rules.sources import check_image, images_of
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import FilledCapture, GeneratedImage, GenerateJob, ImageJob, ImagesResult, Upload
from contracts.schema.jobs import JobRecord, State, new_job_id, utc_now
from contracts.schema.optimize import OptimizeJob

FILE = Artifact(name="image-0.png", media_type="image/png", size=1, sha256="", url="")
DRAWN = GenerateJob.model_construct(prompt="a cat")
TAKEN = ImageJob(
    model="tiny",
    height=8,
    width=8,
    capture=FilledCapture(self_attention=False),
    upload=Upload(media_type="image/png", size=1, sha256="", height=8, width=8),
)
LEARNED = OptimizeJob.model_construct(name="cat")
RESULT = ImagesResult(
    kind="generate",
    model="tiny",
    height=64,
    width=64,
    num_inference_steps=1,
    guidance_scale=1,
    scheduler="DDIMScheduler",
    evaluations=1,
    timesteps=[1.0],
    blocks=[],
    self_attention=False,
    images=[GeneratedImage(index=0, seed=0, image=FILE, trace_bytes=1)],
)


def record(job: GenerateJob | ImageJob | OptimizeJob, state: State = State.SUCCEEDED) -> JobRecord:
    return JobRecord.model_construct(
        id=new_job_id(),
        kind=job.kind,
        state=state,
        request=job,
        created_at=utc_now(),
        expires_at=utc_now(),
        result=RESULT if state is State.SUCCEEDED else None,
        error=Failure(code=Code.OUT_OF_MEMORY, detail="too large") if state is State.FAILED else None,
    )


@pytest.mark.parametrize("job", [DRAWN, TAKEN])
def test_images_come_from_jobs_that_drew_or_took_them(job: GenerateJob | ImageJob) -> None:
    assert images_of(record(job), field="job_id") is RESULT


@pytest.mark.parametrize(
    ("found", "code", "why"),
    [
        (record(LEARNED), Code.WRONG_JOB_KIND, "is of kind 'optimize'; allowed: generate or image"),
        (record(LEARNED, State.EXPIRED), Code.JOB_EXPIRED, "expired at"),
        (record(DRAWN, State.EXPIRED), Code.JOB_EXPIRED, "expired at"),
        (record(DRAWN, State.QUEUED), Code.JOB_NOT_FINISHED, "is queued; wait"),
        (record(DRAWN, State.RUNNING), Code.JOB_NOT_FINISHED, "is running; wait"),
        (record(TAKEN, State.FAILED), Code.JOB_NOT_SUCCESSFUL, "has failed: too large"),
        (record(TAKEN, State.CANCELED), Code.JOB_NOT_SUCCESSFUL, "has been canceled"),
    ],
)
def test_any_other_job_is_refused_with_the_reason(found: JobRecord, code: Code, why: str) -> None:
    with pytest.raises(ServiceError, match=why) as caught:
        images_of(found, field="job_id")
    assert (caught.value.code, caught.value.field, caught.value.value) == (code, "job_id", found.id)
    assert caught.value.retry_after == (1 if code is Code.JOB_NOT_FINISHED else None)


def test_an_image_is_one_that_the_job_has() -> None:
    check_image(RESULT, 0, "x", field="image")
    with pytest.raises(ServiceError, match="there is no image 1"):
        check_image(RESULT, 1, "x", field="image")
