"""What a service is asked for, as the bodies of requests."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from contracts.schema.attribute import MAX_TARGETS
from experiments.evaluation.backends.backend import Examples, Learned, Words
from experiments.evaluation.datasets import Case
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting, as_json
from experiments.evaluation.targets import WORDINGS
from experiments.evaluation.world import Picture
from ovam_client.pictures import file_of, mask_of

Record = dict[str, Any]  # of JSON
LETTERS_A_REQUEST = 4 << 20  # half of what a service takes unless it is told otherwise


def generation(model: str, case: Case) -> Record:
    """The request to generate an image and to keep its trace."""
    return {
        "model": model,
        "prompt": case.prompt,
        "seed": case.seed,
        "num_inference_steps": case.steps,
        "guidance_scale": case.guidance_scale,
        "capture": {"self_attention": True},
    }


def real_image(model: str, picture: Picture) -> Record:
    """The request to trace a real image."""
    height, width = picture.shape[:2]
    capture = {"self_attention": True}
    return {"model": model, "image": file_of(picture), "height": height, "width": width, "capture": capture}


def optimization(recipe: Recipe, words: Words, examples: Examples, resolutions: tuple[int, ...]) -> Record:
    """The request to learn the tokens of classes, which start from their words."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", f"evaluation-{'-'.join(words)}".lower())
    blocks = recipe.blocks(resolutions)
    return {
        "name": plain[:64],
        "classes": list(words),
        "initial": [{"word": word} for word in words.values()],
        "examples": [
            {"job_id": subject.job} | ({"mask": mask_of(truth)} if truth.dtype == np.bool_ else {"labels": file_of(truth)})
            for subject, truth in examples
        ],
        "optimizer": recipe.optimizer,
        "learning_rate": recipe.learning_rate,
        "schedule": asdict(recipe.schedule),
        "epochs": recipe.epochs,
        "blocks": list(blocks) if isinstance(blocks, tuple) else blocks,
    }


def target(setting: Setting, case: Case, learned: Learned, competing: Record) -> Record:
    """What is looked for, and every choice of how; it still lacks a label."""
    settings = as_json(setting.method)
    settings["padding"] = setting.heat.padding
    return {**wanted(setting, case, learned, competing), "settings": settings}


def wanted(setting: Setting, case: Case, learned: Learned, competing: Record) -> dict[str, Any]:
    """What is looked for: words, a learned token, or the rows of words that compete."""
    if setting.target in WORDINGS:
        words = WORDINGS[setting.target](case)
        return {"prompt": words.prompt, "word": words.word}
    if (setting.target, case.class_name) in learned:
        return {"token": learned[setting.target, case.class_name]["token"], "class_name": case.class_name}
    return competing


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
