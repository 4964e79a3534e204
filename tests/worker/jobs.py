"""Jobs as the gateway files them: requests with everything filled in."""

import hashlib
from typing import Any

from contracts.rules.capabilities import generate_job, image_job
from contracts.rules.targets import method_of
from contracts.schema.attribute import AttributeJob, AttributeRequest, TargetJob
from contracts.schema.images import GenerateJob, GenerateRequest, ImageJob, ImageOptions, ImagesResult, Upload
from contracts.schema.models import ModelCard
from contracts.schema.optimize import OptimizeJob, WordInitial
from contracts.schema.probe import ProbeJob
from contracts.schema.targets import EmbeddingTarget, Target, TokenTarget, WordsTarget

CAT = WordsTarget(label="cat", prompt="a photograph of a cat", word="cat")
DOG = WordsTarget(label="dog", prompt="a dog and a tree", word="dog")
TREE = WordsTarget(label="tree", prompt="a tree")
LEARNING_RATES = {"sgd": 100.0, "adam": 0.1}


def generation(card: ModelCard, **fields: Any) -> GenerateJob:
    """A small generation."""
    asked = {"prompt": "a photograph of a cat", "seed": 1, "num_inference_steps": 3, "model": card.name} | fields
    return generate_job(GenerateRequest(**asked), card)


def real_image(card: ModelCard, data: bytes, size: tuple[int, int] = (64, 96), **options: Any) -> ImageJob:
    """A real image of 50 x 70 (height, width), brought to `size`."""
    upload = Upload(media_type="image/png", size=len(data), sha256=hashlib.sha256(data).hexdigest(), height=50, width=70)
    return image_job(ImageOptions(model=card.name, **options), upload, size, card)


def attribution(card: ModelCard, images: ImagesResult | None, job_id: str, *targets: Target, **options: Any) -> AttributeJob:
    """Some targets, each by its own method; `images` is the result of the job that they are looked for in."""
    request = AttributeRequest(job_id=job_id, targets=list(targets or (CAT,)), **options)
    kept = images is not None and images.self_attention
    methods = [method_of(request, number, card, self_attention=kept) for number in range(len(request.targets))]
    return AttributeJob(
        job_id=job_id,
        image=request.image,
        model=card.name,
        targets=[
            TargetJob(label=label_of(target), target=target, method=name, settings=method)
            for target, (name, method) in zip(request.targets, methods, strict=True)
        ],
        softmax=request.softmax,
        distractors=request.distractors,
        maps=request.maps,
        semantic=request.semantic,
        instances=request.instances,
        confidence=request.confidence,
        against=request.against,
        against_image=request.against_image,
        causal=request.causal,
    )


def label_of(target: Target) -> str:
    """What the gateway calls a target that has no label."""
    match target:
        case WordsTarget(label=label, word=word, prompt=prompt):
            return label or word or prompt or ""
        case TokenTarget(label=label, token=token):
            return label or token
        case EmbeddingTarget(label=label):
            return label


def probing(card: ModelCard, job_id: str, **fields: Any) -> ProbeJob:
    """A probe."""
    return ProbeJob(**{"job_id": job_id, "model": card.name, "box": (0, 0, 8, 8)} | fields)


def optimization(card: ModelCard, examples: list[Any], name: str = "cat", **options: Any) -> OptimizeJob:
    """An optimisation of 20 epochs whose classes start from their names."""
    asked = {"name": name, "model": card.name, "classes": ["cat"], "examples": examples, "epochs": 20} | options
    asked = {"initial": [WordInitial(word=each) for each in asked["classes"]]} | asked
    asked = {"learning_rate": LEARNING_RATES[asked.get("optimizer", "adam")]} | asked
    return OptimizeJob(**asked)
