"""Where traces come from: those used last are kept in memory, all others are read from the artifact store."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.generation import GenerateResult
from contracts.jobs import JobRecord
from contracts.ledger import Ledger
from contracts.sources import check_image, images_of
from contracts.store import ArtifactStore
from ovam import Trace
from worker.models import Model

SceneKey = tuple[str, int, int]
"""Job id, attempt, image."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its trace."""

    trace: Trace
    image: np.ndarray
    """uint8, (height, width, 3)."""

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.trace.nbytes + self.image.nbytes


class SceneCache:
    """The scenes used last, up to a budget in bytes. Belongs to the event loop."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._scenes: OrderedDict[SceneKey, tuple[str, Scene]] = OrderedDict()

    def __len__(self) -> int:
        """How many scenes are here."""
        return len(self._scenes)

    def get(self, key: SceneKey) -> Scene | None:
        """A scene, if it is here."""
        if key not in self._scenes:
            return None
        self._scenes.move_to_end(key)
        return self._scenes[key][1]

    def keep(self, key: SceneKey, model: str, scene: Scene) -> None:
        """Remember a scene, and forget the least recently used ones beyond the budget."""
        self._forget(key)
        if scene.nbytes > self.budget:
            return
        self._scenes[key] = (model, scene)
        self.nbytes += scene.nbytes
        while self.nbytes > self.budget:
            self._forget(next(iter(self._scenes)))

    def forget_model(self, name: str) -> None:
        """Forget the scenes of a model: their traces hold on to its weights."""
        for key in [key for key, (model, _) in self._scenes.items() if model == name]:
            self._forget(key)

    def _forget(self, key: SceneKey) -> None:
        if entry := self._scenes.pop(key, None):
            self.nbytes -= entry[1].nbytes


async def source_of(ledger: Ledger, job_id: str, image: int, *, field: str) -> tuple[JobRecord, GenerateResult]:
    """The job that an image comes from; a ServiceError when there is no such image (any more)."""
    record = await ledger.get(job_id, field=field)
    result = images_of(record, field=field)
    check_image(result, image, job_id, field=field.replace("job_id", "image"))
    return record, result


async def scene_of(record: JobRecord, image: int, model: Model, *, cache: SceneCache, store: ArtifactStore) -> Scene:
    """An image and its trace, from memory or from the store. ServiceError trace-unreadable, or ovam's trace errors."""
    key = (record.id, record.attempt, image)
    if scene := cache.get(key):
        return scene
    folder = keys.attempt_folder(record.id, record.attempt)
    trace, png = await asyncio.gather(store.get(f"{folder}/{keys.trace(image)}"), store.get(f"{folder}/image-{image}.png"))
    if trace is None or png is None:
        raise ServiceError(Code.TRACE_UNREADABLE, f"the trace of image {image} of job {record.id} is gone from the store")
    scene = await asyncio.to_thread(_read, trace, png, model)
    cache.keep(key, model.card.name, scene)
    return scene


def _read(trace: bytes, png: bytes, model: Model) -> Scene:
    with Image.open(BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Scene(Trace.from_bytes(trace, model.pipeline), pixels)
