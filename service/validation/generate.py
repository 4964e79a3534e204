"""From a request for images to the job: filled in, and checked against model and deployment."""

from collections.abc import Mapping

from contracts.rules.adapters import check_control, concepts
from contracts.rules.capabilities import Expected, check, generate_job
from contracts.schema.attribute import FilledQuestion
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob, GenerateRequest
from contracts.schema.previews import Gate
from ovam.errors import shown
from service.prompts import check_word, fitting
from service.queue import NOTHING
from service.validation.attribute import filled_question
from service.validation.conditions import pictures_of
from service.validation.lookups import Lookups, check_at_most, check_side


async def filled(request: GenerateRequest, lookups: Lookups, *, files: Mapping[str, bytes] = NOTHING) -> GenerateJob:
    """The job, if the model can do it and the deployment allows it; `files` are stored beside it."""
    catalog, settings = lookups.catalog, lookups.settings
    card = await catalog.model(request.model)
    pictures = await pictures_of(request, files, lookups)
    job = generate_job(request, card, pictures.sources, pictures.size(request, card, settings.max_side))
    check_side(job.height, card, settings.max_side, field="height")
    check_side(job.width, card, settings.max_side, field="width")
    check_at_most(job.num_inference_steps, settings.max_steps, Code.TOO_MANY_STEPS, field="num_inference_steps")
    check_at_most(job.num_images, settings.max_images, Code.TOO_MANY_IMAGES, field="num_images")
    check_control(job, pictures.sizes.get("control.image"))
    check(job, card)
    tokenizer = await catalog.tokenizer(card)
    known = concepts(card, job.adapters)
    prompt = fitting(tokenizer, job.prompt, card.max_tokens, field="prompt", concepts=known)
    for place, each in enumerate(job.emphasis):
        check_word(prompt, each.word, each.occurrence, field=f"emphasis.{place}.word")
    fitting(tokenizer, job.negative_prompt, card.max_tokens, field="negative_prompt", concepts=known)
    if not request.targets:
        return job
    question = await filled_question(request, Expected.of(job, card), card, lookups, prompt=job.prompt)
    check_gate(job.gate, question)
    return job.model_copy(update=dict(question))


def check_gate(gate: Gate | None, question: FilledQuestion) -> None:
    """Raise invalid-argument for a gate at a label that no target has, or several have."""
    labels = [target.label for target in question.targets]
    if gate is not None and labels.count(gate.target) != 1:
        allowed = "the label of one target: " + ", ".join(shown(label) for label in labels if labels.count(label) == 1)
        detail = f"`gate.target` is {shown(gate.target)}; allowed: {allowed}"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="gate.target", value=gate.target)
    judged = None if gate is None else question.targets[labels.index(gate.target)]
    if judged is not None and judged.settings.network is not None:
        detail = (
            f"`gate.target` is {shown(judged.label)}, whose network {judged.settings.network!r} sees the last evaluation alone; "
            "allowed: a target whose method has none"
        )
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="gate.target", value=judged.label)
