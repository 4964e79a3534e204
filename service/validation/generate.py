"""From a request for images to the job: filled in, and checked against model and deployment."""

from contracts.rules.capabilities import check, generate_job
from contracts.schema.errors import Code
from contracts.schema.images import GenerateJob, GenerateRequest
from service.prompts import fitting
from service.validation.lookups import Lookups, check_at_most, check_side


async def filled(request: GenerateRequest, lookups: Lookups) -> GenerateJob:
    """The job, if the model can do it and the deployment allows it."""
    catalog, settings = lookups.catalog, lookups.settings
    card = await catalog.model(request.model)
    job = generate_job(request, card)
    check_side(job.height, card, settings.max_side, field="height")
    check_side(job.width, card, settings.max_side, field="width")
    check_at_most(job.num_inference_steps, settings.max_steps, Code.TOO_MANY_STEPS, field="num_inference_steps")
    check_at_most(job.num_images, settings.max_images, Code.TOO_MANY_IMAGES, field="num_images")
    check(job, card)
    tokenizer = await catalog.tokenizer(card)
    fitting(tokenizer, job.prompt, card.max_tokens, field="prompt")
    fitting(tokenizer, job.negative_prompt, card.max_tokens, field="negative_prompt")
    return job
