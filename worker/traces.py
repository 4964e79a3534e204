"""Where traces come from: those used last are kept in memory, all others are read from the artifact store."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from contracts.rules.sources import check_image, images_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo
from contracts.state import keys
from ovam.tracing.trace import Trace
from worker.models import Model

if TYPE_CHECKING:
    from worker.resources import Resources

SceneKey = tuple[str, int, int]
"""Job id, attempt, image."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its trace."""

    trace: Trace
    image: UInt8[np.ndarray, "height width 3"]

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


async def scene_of(resources: "Resources", model: Model, job_id: str, image: int, *, field: str) -> Scene:
    """Return an image of another job, and its trace, from memory or from the store.

    `field` is where the request names the job. ServiceError when there is no such image (any more), trace-unreadable, and
    ovam's errors of traces.
    """
    record = await resources.ledger.get(job_id, field=field)
    check_image(images_of(record, field=field), image, job_id, field=field.replace("job_id", "image"))
    key = (record.id, record.attempt, image)
    if scene := resources.scenes.get(key):
        return scene
    folder = keys.attempt_folder(record.id, record.attempt)
    files = (f"{folder}/{keys.trace(image)}", f"{folder}/image-{image}.png")
    trace, png = await asyncio.gather(*map(resources.store.get, files))
    if trace is None or png is None:
        raise ServiceError(Code.TRACE_UNREADABLE, f"the trace of image {image} of job {record.id} is gone from the store")
    scene = await asyncio.to_thread(_read, trace, png, model)
    resources.scenes.keep(key, model.card.name, scene)
    return scene


def _read(trace: bytes, png: bytes, model: Model) -> Scene:
    with Image.open(BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Scene(Trace.from_bytes(trace, model.pipeline), pixels)


def block_infos(trace: Trace) -> list[BlockInfo]:
    """Describe the blocks that a trace holds."""
    return [BlockInfo(name=block.name, grid=block.grid, heads=block.heads) for block in trace.blocks]
