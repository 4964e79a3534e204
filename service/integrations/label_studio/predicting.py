"""From tasks to predictions."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from contracts.schema.errors import Code, ServiceError
from service.integrations.asking import Asking, Found, Picture
from service.integrations.guided import Place
from service.integrations.label_studio.config import LabelConfig, parsed
from service.integrations.label_studio.meaning import Meaning, meaning_of, version_of
from service.integrations.label_studio.regions import drawn, label_of, places_of
from service.integrations.label_studio.shapes import Params, Predict, Region, Task
from service.integrations.label_studio.tasks import picture_of
from service.resources import Resources

LONGEST_WAIT = 90.0  # seconds: Label Studio waits for 100 (ML_TIMEOUT_PREDICT)
AT_ONCE = 4  # tasks
Prediction = dict[str, Any]


async def predicted(request: Predict, resources: Resources) -> list[Prediction]:
    """A prediction for each task. Of several tasks, those that fail have an `error` and no `result`: Label Studio skips them.

    Raises what is wrong with the config, and with the only task, or with all of them.
    """
    config = parsed(request.label_config, field="label_config")
    asking, params = Asking(resources, LONGEST_WAIT), request.params or Params()
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, task: Task) -> Prediction | ServiceError:
        async with free:
            try:
                field = f"tasks.{number}.data.{config.key}"
                picture = await picture_of(task, config.key, request.project, params, asking, field=field)
                return await prediction(picture, config, request.project, params, asking)
            except ServiceError as error:
                return error

    found = await asyncio.gather(*(one(number, task) for number, task in enumerate(request.tasks)))
    failed = [each for each in found if isinstance(each, ServiceError)]
    if failed and len(failed) == len(found):
        raise failed[0]
    return [{"error": f"{each.code}: {each.detail}"} if isinstance(each, ServiceError) else each for each in found]


async def prediction(picture: Picture, config: LabelConfig, project: str, params: Params, asking: Asking) -> Prediction:
    """The prediction of a picture: of all labels, or, where a person points, of the one that is chosen or is there."""
    registry = asking.resources.catalog.registry
    labels = config.labels
    meanings = [await meaning_of(label, project, picture.model, registry) for label in labels.values()]
    version = version_of(picture.model, meanings)
    regions = params.context.result if params.context else []
    places = [*places_of(regions, picture.traced)]
    if places:
        chosen = await chosen_by(regions, places, labels.keys(), picture, asking)
        meanings = [each for each in meanings if each.label.name == chosen]
    found = await asking.targets(picture, [each.target for each in meanings], places) if meanings else []
    return {"model_version": version, **combined(meanings, found, config)}


async def chosen_by(
    regions: Sequence[Region], places: Sequence[Place], labels: Collection[str], picture: Picture, asking: Asking
) -> str:
    """The label of a smart tool; where it has none, the label whose word the first place attends to most."""
    named = [name for region in regions if (name := label_of(region))]
    if named:
        if named[-1] in labels:
            return named[-1]
        detail = f"label {named[-1][:100]!r} is drawn by no brush, polygon or rectangle; known: {', '.join(labels)}"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="params.context.result", value=named[-1][:100])
    return await asking.best(picture, next((each for each in places if each.wanted), places[0]), [*labels])


def combined(meanings: Sequence[Meaning], found: Sequence[Found], config: LabelConfig) -> Prediction:
    """The regions of all labels, and how sure they are on average."""
    result, scores = [], []
    for meaning, each in zip(meanings, found, strict=True):
        control = config.drawn_by(meaning.label.name)
        if control is not None and each.mask.any():
            result += drawn(each, meaning.label.name, control, config.image)
            scores.append(each.score)
    return {"score": float(np.mean(scores)) if scores else 0.0, "result": result}
