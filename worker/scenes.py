"""Images and their traces: those used last are kept in memory."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ovam.tracing.trace import Trace

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
        self.hits = self.misses = 0
        self._scenes: OrderedDict[SceneKey, tuple[str, Scene]] = OrderedDict()

    def __len__(self) -> int:
        """How many scenes are here."""
        return len(self._scenes)

    def __contains__(self, key: SceneKey) -> bool:
        """Whether a scene is here; looking does not use it."""
        return key in self._scenes

    def get(self, key: SceneKey) -> Scene | None:
        """A scene, if it is here."""
        if key not in self._scenes:
            self.misses += 1
            return None
        self.hits += 1
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
