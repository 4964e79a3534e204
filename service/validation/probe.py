"""From the question what is at a place to the job: the place as a box, the words, and the attribution prompt."""

from contracts.rules.adapters import check_there
from contracts.rules.attentions import check_stream
from contracts.rules.selections import check_selections
from contracts.rules.sources import check_image
from contracts.schema.errors import Code, ServiceError
from contracts.schema.probe import Box, ProbeJob, ProbeOptions, ProbeRequest
from ovam.core.words import words_of
from service.prompts import check_word, fitting, sentence_of
from service.validation.lookups import Lookups


async def filled(request: ProbeRequest, lookups: Lookups, *, job_id: str) -> ProbeJob:
    """The job, if the image has the place and the prompt has the words."""
    images = await lookups.images_of(job_id, field="job_id")
    check_image(images, request.image, job_id, field="image")
    box = box_of(request, images.height, images.width)
    check_selections(images, blocks=request.blocks, evaluations=request.evaluations, heads=request.heads)
    card = await lookups.catalog.model(images.model, field="job_id")
    check_stream(card, images.blocks, attention=None, blocks=request.blocks, heads=request.heads)
    check_there(images, card, field="job_id")
    field = "words" if request.prompt is None else "prompt"
    text = request.prompt or sentence_of(*(request.words or ()))
    prompt = fitting(await lookups.catalog.tokenizer(card), text, card.max_tokens, field=field)
    for place, word in enumerate(request.words or ()):
        check_word(prompt, word, field=f"words.{place}")
    words = request.words or [word for word in words_of(text) if prompt.has(word)]
    if not words:
        detail = f"there is no word in prompt {text!r}"
        raise ServiceError(Code.WORD_NOT_IN_PROMPT, detail, field=field, value=text)
    options = {name: getattr(request, name) for name in ProbeOptions.model_fields}
    found = {"job_id": job_id, "model": card.name, "box": box, "words": words, "prompt": text}
    return ProbeJob.model_validate(options | found)


def box_of(request: ProbeRequest, height: int, width: int) -> Box:
    """The place as x, y, width, height. ServiceError (region-outside-image) unless all of it is in the image."""
    x, y = request.point or (0, 0)
    left, top, across, down = box = request.box or (x, y, 1, 1)
    if left + across > width or top + down > height:
        field, given = ("point", request.point) if request.point else ("box", request.box)
        detail = f"`{field}` {[*(given or ())]} is not inside of the image, which is {width} wide and {height} high"
        raise ServiceError(Code.REGION_OUTSIDE, detail, field=field, value=str([*(given or ())]))
    return box
