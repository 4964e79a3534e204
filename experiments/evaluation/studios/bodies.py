"""What a service is asked for, as the bodies of requests."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from contracts.attribution import MAX_TARGETS
from contracts.attribution import Settings as SettingsOfRequests
from contracts.targets import counting
from experiments.client import Record, as_png, base64_of, png_base64
from experiments.evaluation.asking import PADDED, WORDINGS
from experiments.evaluation.datasets import Case
from experiments.evaluation.images import Picture
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting
from experiments.evaluation.studios.studio import Examples, Learned, Words
from ovam.schedules import StepDecay
from ovam.trace import Half

LETTERS_A_REQUEST = 4 << 20  # half of what a service takes unless it is told otherwise


def generation(model: str, case: Case, half: Half) -> Record:
    """The request to make an image and to keep a half of its trace."""
    return {
        "model": model,
        "prompt": case.prompt,
        "seed": case.seed,
        "num_inference_steps": case.steps,
        "guidance_scale": case.guidance_scale,
        "capture": {"half": half, "self_attention": half == "conditional"},
    }


def looking(model: str, picture: Picture) -> Record:
    """The request to look at a picture as it is."""
    height, width = picture.shape[:2]
    capture = {"self_attention": True}
    return {"model": model, "image": base64_of(as_png(picture)), "height": height, "width": width, "capture": capture}


def lesson(recipe: Recipe, words: Words, examples: Examples) -> Record:
    """The request to learn the tokens of classes, which start from their words."""
    schedule = "step" if isinstance(recipe.schedule, StepDecay) else type(recipe.schedule).__name__.lower()
    plain = re.sub(r"[^a-z0-9._-]+", "-", f"evaluation-{'-'.join(words)}".lower())
    return {
        "name": plain[:64],
        "classes": list(words),
        "start": [{"word": word} for word in words.values()],
        "examples": [
            {"job_id": made.jobs[recipe.half]}
            | ({"mask": png_base64(truth)} if truth.dtype == np.bool_ else {"labels": base64_of(as_png(truth))})
            for made, truth in examples
        ],
        "optimizer": recipe.optimizer,
        "learning_rate": recipe.learning_rate,
        "schedule": {"kind": schedule, **asdict(recipe.schedule)},
        "epochs": recipe.epochs,
        "blocks": None if recipe.blocks is None else list(recipe.blocks),
    }


def target(setting: Setting, case: Case, learned: Learned, vocabulary: Record) -> Record:
    """What is looked for, and every choice of how; it still lacks a label."""
    written = setting.method.settings()
    chosen = counting({field: written[field] for field in SettingsOfRequests.model_fields})
    if setting.asked == PADDED:
        chosen["padding"] = "max_length"
    return {**sought(setting, case, learned, vocabulary), "settings": chosen}


def sought(setting: Setting, case: Case, learned: Learned, vocabulary: Record) -> dict[str, Any]:
    """What is looked for."""
    if setting.asked in WORDINGS:
        prompt, word = WORDINGS[setting.asked](case)
        return {"prompt": prompt, "word": word}
    if (setting.asked, case.kind) in learned:
        return {"token": learned[setting.asked, case.kind]["token"], "class_name": case.kind}
    return vocabulary


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Targets as JSON, as many together as a request takes."""
    batch: list[str] = []
    for text in texts:
        if batch and (len(batch) == MAX_TARGETS or sum(map(len, batch)) + len(text) > LETTERS_A_REQUEST):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
