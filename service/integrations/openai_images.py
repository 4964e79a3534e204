"""`POST /v1/images/generations`: what OpenAI's clients ask for images with. Its job is an ordinary one, and its id is told."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from starlette.types import Receive, Scope, Send

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Name, Schema, Text
from contracts.schema.images import MAX_SEED, TIMESTEPS, GenerateJob, GenerateRequest, ImagesResult
from contracts.schema.jobs import JobRecord, State
from contracts.state import keys
from service import examples
from service.bodies import BodyRoute
from service.openapi import DRAWING, SUBMISSION, body, example, problems
from service.queue import Once
from service.refusals import RefusalError
from service.resources import Resources, With
from service.routes.submission import IdempotencyKey, root_of
from service.validation import generate as validation
from service.validation.lookups import Lookups

LONGEST_WAIT = 600.0  # seconds: as long as OpenAI's clients wait
NO_RETRY = {"x-should-retry": "false"}
THEIRS = {"height": "size", "width": "size", "num_images": "n"}  # names of fields, by ours
ENDED = (Code.JOB_NOT_FINISHED, Code.JOB_NOT_SUCCESSFUL, Code.UNKNOWN_JOB)
FAILURES = (Code.WORKER_DIED, Code.OUT_OF_MEMORY, Code.MODEL_FAILED_TO_LOAD, Code.CAPTURE_FAILED, Code.SELECTION_INVALID)
EXAMPLE = {
    "prompt": "a photograph of a red car on the grass",
    "n": 1,
    "size": "128x128",
    "response_format": "b64_json",
    "seed": 7,
}
ANSWER = {
    "created": 1_763_805_000,
    "data": [{"url": None, "b64_json": "iVBORw0KGgo..."}],
    "size": "128x128",
    "output_format": "png",
    "ovam": {"job_id": examples.GENERATION, "seeds": [7]},
}
router = APIRouter(tags=["jobs"], route_class=BodyRoute)


class ImageGenerationRequest(Schema):
    """OpenAI's request for images. Below its own fields stand those of `/v1/generate` that it has no name for."""

    prompt: Text
    """What to generate."""
    model: Name | None = None
    """A name from GET /v1/models; the deployment's default without it."""
    n: Annotated[int, Field(ge=1)] | None = None
    """How many images; 1 without it."""
    size: Annotated[str, StringConstraints(pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$")] | None = None
    """Width x height in pixels, as `512x512`; `auto`: the model's native size."""
    response_format: Literal["url", "b64_json"] | None = None
    """Where each image is (`url`, the default), or its bytes in base64."""
    output_format: Literal["png"] | None = None
    quality: Literal["auto", "standard"] | None = None
    background: Literal["auto", "opaque"] | None = None
    user: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Taken, and not kept."""
    stream: Literal[False] | None = None
    """Events come from `/v1/jobs/{job_id}/events`."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """Image k has seed + k; random without it."""
    negative_prompt: Annotated[str, StringConstraints(max_length=2000)] | None = None
    """What to avoid."""
    num_inference_steps: Annotated[int, Field(ge=1, le=TIMESTEPS)] | None = None
    """Steps of the scheduler."""
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    """The model's own default without it."""

    def ours(self) -> GenerateRequest:
        """The request as `/v1/generate` takes it."""
        kept = ("prompt", "model", "seed", "negative_prompt", "num_inference_steps", "guidance_scale")
        said: dict[str, Any] = {name: getattr(self, name) for name in kept} | {"num_images": self.n}
        if self.size not in (None, "auto"):
            said["width"], said["height"] = map(int, self.size.split("x"))
        return GenerateRequest.model_validate({name: value for name, value in said.items() if value is not None})


class ImageData(BaseModel, frozen=True):
    """One image."""

    url: str | None = None
    b64_json: str | None = None


class Extension(BaseModel, frozen=True):
    """What OpenAI's answer has no field for."""

    job_id: str = Field(description="the job: ask it where things are, by `/v1/attribute`")
    seeds: list[int]


class ImageGenerationAnswer(BaseModel, frozen=True):
    """The images."""

    created: int = Field(description="seconds since 1970")
    data: list[ImageData]
    size: str
    output_format: Literal["png"] = "png"
    ovam: Extension


@router.post(
    "/v1/images/generations",
    response_model=ImageGenerationAnswer,
    responses={
        200: example(ANSWER, "the images"),
        **problems(
            *SUBMISSION,
            *ENDED,
            *FAILURES,
            *DRAWING,
            Code.STORE_UNAVAILABLE,
        ),
    },
)
async def openai_generate(
    request: Annotated[ImageGenerationRequest, body(EXAMPLE)], http: Request, resources: With, key: IdempotencyKey = None
) -> Response:
    """Generate images as OpenAI's clients ask for them: answered when they are there. The job keeps their attention."""
    once = await asyncio.to_thread(Once.of, key, request, 0) if key else None
    record = await resources.queue.replay(once) if once else None
    if record is None:
        record, _ = await resources.queue.submit(await filled(request, resources.lookups), once)
    return Drawn(Request(http.scope), record, resources, inline=request.response_format == "b64_json", shared=key is not None)


async def filled(request: ImageGenerationRequest, lookups: Lookups) -> GenerateJob:
    """The job; what it is refused for has the names of OpenAI's fields."""
    with in_their_names(request):
        return await validation.filled(request.ours(), lookups)


@contextmanager
def in_their_names(request: ImageGenerationRequest) -> Iterator[None]:
    """Give errors the names of OpenAI's fields."""
    try:
        yield
    except ServiceError as error:
        field = THEIRS.get(error.field or "", error.field)
        value = request.size if field == "size" else error.value
        raise ServiceError(error.code, error.detail, field=field, value=value, retry_after=error.retry_after) from error
    except ValidationError as error:  # what `/v1/generate` allows less of
        sent = dict(request)
        fields = [THEIRS.get(str(each["loc"][0]), str(each["loc"][0])) for each in error.errors()]
        found = [
            {**each, "loc": ("body", field), "input": sent[field]}
            for field, each in zip(fields, error.errors(include_url=False), strict=True)
        ]
        raise RequestValidationError(found, body=sent) from error


class Drawn(Response):
    """An answer that waits for its images, after the request was handled, so that nothing of its body is kept meanwhile.

    The job of a client that leaves is canceled, unless others may wait for it, too (`shared`).
    """

    def __init__(self, http: Request, record: JobRecord, resources: Resources, *, inline: bool, shared: bool) -> None:
        super().__init__()
        self.http = http
        self.record = record
        self.resources = resources
        self.inline = inline
        self.shared = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then answer."""
        leaving = asyncio.create_task(left(receive))
        ending = asyncio.create_task(self.resources.events.finished(self.record.id, LONGEST_WAIT))
        try:
            await asyncio.wait((leaving, ending), return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                ending.result()
                await (await self.answer())(scope, receive, send)
            elif not self.shared:
                await self.resources.queue.cancel(self.record.id)
        finally:
            leaving.cancel()
            ending.cancel()

    async def answer(self) -> Response:
        """The images. Raises the job's own failure, or job-not-finished."""
        record = await self.resources.ledger.get(self.record.id)
        if isinstance(record.result, ImagesResult):
            found = [await self.data(record, each.image.name, each.image.url) for each in record.result.images]
            whole = ImageGenerationAnswer(
                created=int(record.created_at.timestamp()),
                data=found,
                size=f"{record.result.width}x{record.result.height}",
                ovam=Extension(job_id=record.id, seeds=[each.seed for each in record.result.images]),
            )
            return Response(whole.model_dump_json(exclude_none=True), media_type="application/json")
        if record.error is not None:
            raise final(record.error.code, f"job {record.id} failed: {record.error.detail}")
        code = Code.JOB_NOT_SUCCESSFUL if record.state is State.CANCELED else Code.JOB_NOT_FINISHED
        raise final(code, f"job {record.id} is {record.state}; see GET /v1/jobs/{record.id}")

    async def data(self, record: JobRecord, name: str, url: str) -> ImageData:
        """An image: its bytes, or its whole address, as the client wrote that of the request."""
        if not self.inline:
            return ImageData(url=f"{self.http.url.scheme}://{self.http.url.netloc}{root_of(self.http)}{url}")
        file = await self.resources.store.get(f"{keys.attempt_folder(record.id, record.attempt)}/{name}")
        if file is None:  # deleted in this moment
            raise final(Code.UNKNOWN_JOB, f"job {record.id} was deleted")
        return ImageData(b64_json=base64.b64encode(file).decode())


def final(code: Code, detail: str) -> RefusalError:
    """A failure after which OpenAI's clients do not ask again: that would file another job."""
    return RefusalError(code, detail, headers=NO_RETRY)


async def left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
