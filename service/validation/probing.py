"""Checks of the question what is at a place."""

import re

from contracts.errors import Code, ServiceError
from contracts.generation import GenerateResult
from contracts.probing import ProbeRequest
from contracts.selections import chosen_blocks, positions
from contracts.sources import check_image
from service.prompts import check_tokens, fitting, occurrences
from service.validation.lookups import Lookups

A_WORD = re.compile(r"[^\W_]")


async def checked(request: ProbeRequest, lookups: Lookups) -> ProbeRequest:
    """The request with its attribution prompt, if the image has the place and the prompt has the words."""
    result = await lookups.images_of(request.job_id, field="job_id")
    check_image(result, request.image, request.job_id, field="image")
    check_place(request, result.height, result.width)
    check_selections(request, result)
    card = await lookups.catalog.model(result.model, field="job_id")
    tokenizer = await lookups.catalog.tokenizer(card)
    field = "words" if request.prompt is None else "prompt"
    prompt = fitting(tokenizer, request.attribution_prompt, card.max_tokens, field=field)
    for place, word in enumerate(request.words or ()):
        check_tokens(prompt, word, occurrences(prompt.text, word), field=f"words.{place}")
    if not A_WORD.search(prompt.text):
        detail = f"there is no word in prompt {prompt.text!r}"
        raise ServiceError(Code.WORD_NOT_IN_PROMPT, detail, field=field, value=prompt.text)
    return request.model_copy(update={"prompt": request.attribution_prompt})


def check_place(request: ProbeRequest, height: int, width: int) -> None:
    """Raise region-outside-image unless all of the place is in an image of (height, width)."""
    field = "point" if request.box is None else "box"
    left, top, across, down = request.region
    if left + across > width or top + down > height:
        asked = request.point or request.box or ()
        detail = f"`{field}` {list(asked)} is not inside of the image, which is {width} wide and {height} high"
        raise ServiceError(Code.REGION_OUTSIDE, detail, field=field, value=[*asked])


def check_selections(request: ProbeRequest, result: GenerateResult) -> None:
    """Raise selection-invalid for a choice of what the image's trace does not hold."""
    positions(request.evaluations, result.evaluations, field="evaluations")
    for block in chosen_blocks(request.blocks, result.blocks, field="blocks"):
        positions(request.heads, block.heads, field="heads")
