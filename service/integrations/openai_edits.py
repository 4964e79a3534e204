"""`POST /v1/images/edits`: what OpenAI's clients change images with. Its job is a generation that starts from the image."""

import asyncio
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from contracts.schema.errors import Code
from contracts.schema.fields import Base64
from contracts.schema.images import GenerateJob, GenerateRequest
from service import examples
from service.bodies import BodyRoute
from service.images import decoded
from service.integrations.openai_images import (
    ANSWER,
    ENDED,
    FAILURES,
    Drawn,
    ImageGenerationAnswer,
    ImageGenerationRequest,
    in_their_names,
)
from service.openapi import DRAWING, PICTURES, SUBMISSION, body, example, problems
from service.queue import Once
from service.resources import With
from service.routes.submission import IdempotencyKey
from service.validation import generate as validation
from service.validation.lookups import Lookups

EXAMPLE = {"prompt": "a photograph of a blue car on the grass", "image": examples.PNG, "strength": 0.7, "seed": 7}
router = APIRouter(tags=["jobs"], route_class=BodyRoute)


class ImageEditRequest(ImageGenerationRequest):
    """OpenAI's request to change an image, as a form with files, or in JSON with files in base64."""

    TAKES_FORMS: ClassVar[bool] = True
    image: Base64
    """A PNG, JPEG or WebP."""
    mask: Base64 | None = None
    """A PNG that is transparent where the image is to be changed; without it, everywhere."""
    input_fidelity: Literal["low", "high"] | None = None
    """Taken, and without effect; say `strength`."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How much is replaced: 0.8 without it, and 1 with a mask."""

    def edit(self, mask: str | None) -> GenerateRequest:
        """The request as `/v1/generate` takes it."""
        more: dict[str, Any] = {"image": self.image, "mask": mask, "strength": self.strength}
        return GenerateRequest.model_validate(dict(self.ours()) | more)


FORM = {
    "type": "object",
    "required": ["prompt", "image"],
    "properties": {
        name: {"type": "string"} | ({"format": "binary"} if name in ("image", "mask") else {})
        for name in ImageEditRequest.model_fields
    },
}


@router.post(
    "/v1/images/edits",
    response_model=ImageGenerationAnswer,
    responses={
        200: example(ANSWER, "the images"),
        **problems(
            *SUBMISSION,
            *ENDED,
            *FAILURES,
            *DRAWING,
            Code.SETTINGS_CONTRADICT,
            *PICTURES,
            Code.STORE_UNAVAILABLE,
        ),
    },
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": FORM}}}},
)
async def openai_edit(
    request: Annotated[ImageEditRequest, body(EXAMPLE)], http: Request, resources: With, key: IdempotencyKey = None
) -> Response:
    """Change an image as OpenAI's clients ask for it: answered when the new ones are there. The job keeps their attention."""
    once = await asyncio.to_thread(Once.of, key, request, 0) if key else None
    record = await resources.queue.replay(once) if once else None
    if record is None:
        file = decoded(request.image, field="image")
        record, _ = await resources.queue.submit(await filled(request, resources.lookups, file), once, {"image": file})
    return Drawn(Request(http.scope), record, resources, inline=request.response_format == "b64_json", shared=key is not None)


async def filled(request: ImageEditRequest, lookups: Lookups, file: bytes) -> GenerateJob:
    """The job; what it is refused for has the names of OpenAI's fields."""
    mask = None
    if request.mask is not None:
        mask = await lookups.decoders.transparent(decoded(request.mask, field="mask"), field="mask")
    with in_their_names(request):
        return await validation.filled(request.edit(mask), lookups, files={"image": file})
