"""From the question where targets are to the job: every target with its label, its prompt or token, and all its settings."""

from collections.abc import Sequence
from typing import Literal, assert_never

from tokenizers import Tokenizer

from contracts.rules.abilities import check_ability
from contracts.rules.adapters import check_there
from contracts.rules.attentions import check_own_words, reads_own_words, with_own_prompt
from contracts.rules.capabilities import scheduled_evaluations
from contracts.rules.selections import Traced
from contracts.rules.sources import check_image
from contracts.rules.targets import (
    calibration_of,
    check_aggregation,
    check_crf,
    check_embedding,
    check_method,
    check_network,
    method_of,
    setting_field,
)
from contracts.schema.attribute import AttributeJob, AttributeRequest, FilledQuestion, Question, TargetJob
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import ImagesResult
from contracts.schema.models import ModelCard
from contracts.schema.targets import EmbeddingTarget, Target, TokenTarget, WordsTarget
from ovam.core.confidence import Calibration
from ovam.core.words import spans_of
from ovam.errors import shown
from service.prompts import Prompt, check_word, fitting, sentence_of
from service.validation.lookups import Lookups

OWN = ("job_id", "image", "appraisal", "against", "against_image", "causal")  # fields of the request that the job has as they are


async def filled(request: AttributeRequest, lookups: Lookups) -> AttributeJob:
    """The job, if its source has the image and every target can be looked for in it."""
    images = await lookups.images_of(request.job_id, field="job_id")
    check_image(images, request.image, request.job_id, field="image")
    card = await lookups.catalog.model(images.model, field="job_id")
    check_there(images, card, field="job_id")
    other = await compared(request, images, lookups)
    both = images if other is None else in_both(images, other)
    question = await filled_question(
        request, both, card, lookups, source=images.kind, prompt=await lookups.prompt_of(request.job_id, field="job_id")
    )
    for number, target in enumerate(question.targets if other else ()):
        check_method(request, number, target.settings, other or images, card)
    await check_same_words(request, question, lookups)
    check_clip(request, card)
    check_causal(request, images, card)
    return AttributeJob(
        model=card.name,
        **{name: getattr(request, name) for name in OWN},
        **dict(question),
    )


async def compared(request: AttributeRequest, images: ImagesResult, lookups: Lookups) -> ImagesResult | None:
    """The images that the request's is compared with, if there are any: of the same model and size."""
    if request.against is None:
        return None
    other = await lookups.images_of(request.against, field="against")
    check_image(other, request.against_image, request.against, field="against_image")
    for what, here, there in (
        ("model", images.model, other.model),
        ("size (height x width)", f"{images.height} x {images.width}", f"{other.height} x {other.width}"),
    ):
        if here != there:
            detail = (
                f"job {request.against} has images of {what} {there}; allowed for `against`: {here}, as job {request.job_id} has"
            )
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="against", value=there)
    return other


def in_both(images: ImagesResult, other: ImagesResult) -> ImagesResult:
    """Images of which is kept what is kept of two jobs' images."""
    keep = images.keep if images.keep == other.keep else "queries"
    return images.model_copy(update={"self_attention": images.self_attention and other.self_attention, "keep": keep})


async def check_same_words(request: AttributeRequest, question: FilledQuestion, lookups: Lookups) -> None:
    """Raise settings-contradict for words of the image's own prompt where it is compared with an image of another one."""
    if request.against is None or not any(reads_own_words(target.settings) for target in question.targets):
        return
    here, there = [await lookups.prompt_of(each, field="against") for each in (request.job_id, request.against)]
    if here != there:
        detail = (
            f"job {request.against} drew its image for {shown(there)}, in which the words of {shown(here)} have no rows; "
            "allowed for `against`: an image of the same prompt, or `attention` 'concept'"
        )
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="against", value=request.against)


def check_causal(request: AttributeRequest, images: ImagesResult, card: ModelCard) -> None:
    """Raise settings-contradict for images that no prompt drew, and for targets that are no words to leave out of one.

    selection-invalid for an evaluation that their generations do not have.
    """
    if request.causal is None:
        return
    check_ability("causal", card, field="causal", value=None)
    if images.kind != "generate":
        detail = f"job {request.job_id} has a real image, which no prompt drew; allowed with `causal`: a generate job's"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="causal", value=request.job_id)
    made, start = scheduled_evaluations(images.scheduler, images.num_inference_steps, card), request.causal.from_evaluation
    if start >= made:
        allowed = f"for job {request.job_id}, drawn in {made} evaluations: 0 to {made - 1}"
        detail = f"`causal.from_evaluation` is {start}; allowed {allowed}"
        raise ServiceError(Code.SELECTION_INVALID, detail, field="causal.from_evaluation", value=start)
    for number, target in enumerate(request.targets):
        if not isinstance(target, WordsTarget) or target.word is None:
            detail = f"`targets.{number}` names no `word` that could be left out of the prompt; allowed with `causal`: words"
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=f"targets.{number}")


async def filled_question(
    request: Question,
    images: Traced,
    card: ModelCard,
    lookups: Lookups,
    *,
    source: Literal["generate", "image"] = "generate",
    prompt: str | None = None,
) -> FilledQuestion:
    """The question, if every target can be looked for in such images.

    `source` is the kind of job that they are of, `prompt` their own, where it is known.
    """
    check_softmax(request)
    tokenizer = await lookups.catalog.tokenizer(card)
    targets = []
    for number, target in enumerate(request.targets):
        name, method = method_of(request, number, card, self_attention=images.self_attention)
        asked = with_own_prompt(target, method, prompt, field=f"targets.{number}")
        label, whole = await filled_target(asked, card, tokenizer, lookups, field=f"targets.{number}")
        check_method(request, number, method, images, card)
        check_network(request, number, method, images, card)
        check_aggregation(request, number, method, images, card)
        targets.append(TargetJob(label=label, target=whole, method=name, settings=method))
    distractors = []
    for number, target in enumerate(request.distractors):
        label, whole = await filled_target(target, card, tokenizer, lookups, field=f"distractors.{number}")
        distractors.append(whole.model_copy(update={"label": label}))
    check_own_words(request, [each.settings for each in targets], lambda number: attention_field(request, number))
    if request.softmax == "together":
        check_competitors([each.target for each in targets], distractors)
    check_crf(request, [each.settings for each in targets], images)
    return FilledQuestion(
        targets=targets,
        softmax=request.softmax,
        distractors=distractors,
        maps=request.maps,
        semantic=request.semantic,
        instances=request.instances,
        confidence=request.confidence,
        calibrations=calibrations(request, targets, card, source) if request.confidence else [],
    )


def calibrations(
    request: Question, targets: Sequence[TargetJob], card: ModelCard, source: Literal["generate", "image"]
) -> list[Calibration | None]:
    """What to expect of each target's mask; nothing is known of targets that compete."""
    if request.softmax == "together":
        return [None] * len(targets)
    return [calibration_of(card, source, each.target.kind, each.settings) for each in targets]


async def filled_target(
    target: Target, card: ModelCard, tokenizer: Tokenizer, lookups: Lookups, *, field: str
) -> tuple[str, Target]:
    """A target's label and the target, if its word is in its prompt, its token the model's, its embedding of the model's width.

    Its settings are left out: the job has all of them beside it.
    """
    match target:
        case WordsTarget():
            prompt, word = target.prompt or sentence_of(target.word or ""), target.word
            tokens = fitting(tokenizer, prompt, card.max_tokens, field=f"{field}.prompt" if target.prompt else f"{field}.word")
            check_word(tokens, word or prompt, target.occurrence, field=word_field(target, tokens, field))
            return target.label or word or prompt, target.model_copy(update={"prompt": prompt, "settings": None})
        case TokenTarget():
            token = (await lookups.catalog.token(target.token, field=f"{field}.token")).on(card, field=f"{field}.token")
            name = token.classes[token.row(target.class_name, field=f"{field}.class_name") - 1]
            known = {"token": token.reference, "class_name": name, "settings": None}
            return target.label or name, target.model_copy(update=known)
        case EmbeddingTarget():
            check_embedding(target.embedding, card, field=f"{field}.embedding")
            rows = target.rows or [*range(1, len(target.embedding))]
            return target.label, target.model_copy(update={"rows": rows, "settings": None})
        case _:
            assert_never(target)


def check_clip(request: AttributeRequest, card: ModelCard) -> None:
    """Raise no-clip for texts to compare the image to where the model's workers have no CLIP model."""
    if request.appraisal and request.appraisal.clip and card.clip is None:
        detail = f"`appraisal.clip` needs a CLIP model, and the workers of model {card.name!r} have none (OVAM_CLIP)"
        raise ServiceError(Code.NO_CLIP, detail, field="appraisal.clip", value=request.appraisal.clip[0])


def attention_field(request: Question, number: int) -> str:
    """The field that says whose attention a target's heat is."""
    return setting_field(request, number, "attention") or "settings.attention"


def check_softmax(request: Question) -> None:
    """Raise settings-contradict for distractors where nothing competes, and for settings of one, which has no mask."""
    count = len(request.distractors)
    if count and request.softmax == "each":
        detail = f"`distractors` has {count}; allowed with `softmax` 'each': none (with 'together' they compete)"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="distractors", value=count)
    for number, target in enumerate(request.distractors):
        if target.settings is not None:
            field, value = f"distractors.{number}.settings", shown(target.settings.changes())
            detail = f"`{field}` is {value}; allowed: none, since a distractor gets no mask"
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=field, value=value)


def check_competitors(targets: Sequence[Target], distractors: Sequence[Target]) -> None:
    """Raise settings-contradict for a distractor that is a target, or another distractor, as well; and for a lone competitor.

    A target may be there twice, with other settings: it competes once.
    """
    fields = {thing_of(target): f"targets.{number}" for number, target in enumerate(targets)}
    for number, target in enumerate(distractors):
        field, same = f"distractors.{number}", fields.get(thing_of(target))
        if same is not None:
            detail = f"`{field}` is {target.label!r}, as `{same}` is; allowed: what is no target and no other distractor"
            raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field=field, value=target.label)
        fields[thing_of(target)] = field
    if len(fields) == 1:
        detail = "`softmax` is 'together', and nothing else competes; allowed: 'each', or a further target or distractor"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="softmax", value="together")


def thing_of(target: Target) -> str:
    """What a target, filled in, is looked for by: words whatever their case."""
    text = target.model_dump_json(exclude={"label", "settings"})
    return text.casefold() if isinstance(target, WordsTarget) else text


def word_field(target: WordsTarget, prompt: Prompt, field: str) -> str:
    """The field at fault should the word not be in its prompt, or not often enough."""
    if target.word is None:
        return f"{field}.prompt"
    too_few = target.occurrence is not None and spans_of(prompt.text, target.word)
    return f"{field}.{'occurrence' if too_few else 'word'}"
