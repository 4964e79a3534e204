"""Images and their traces in memory: hot ones on the device, warm ones on the host; those used last are kept."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import UInt8

from ovam.attention.refinement import matrix_bytes
from ovam.tracing.blocks import SelfAttention
from ovam.tracing.trace import Trace

SceneKey = tuple[str, int, int]
"""Job id, attempt, image."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its trace, or a part of it."""

    trace: Trace
    image: UInt8[np.ndarray, "height width 3"]

    @property
    def nbytes(self) -> int:
        """Memory it takes, once its heat was refined."""
        pixels = [layer for layer in self.trace.self_attention if isinstance(layer, SelfAttention)]
        return self.trace.nbytes + self.image.nbytes + sum(matrix_bytes(layer) for layer in pixels)

    def on(self, device: torch.device | str) -> "Scene":
        """Return the scene with its trace on a device."""
        return replace(self, trace=self.trace.to(device=device))


Entry = tuple[SceneKey, str, Scene]
"""A scene with its key and the name of its model."""


class SceneCache:
    """The scenes used last, up to a budget in bytes. Belongs to the event loop."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
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
            return None
        self._scenes.move_to_end(key)
        return self._scenes[key][1]

    def keep(self, key: SceneKey, model: str, scene: Scene) -> list[Entry]:
        """Remember a scene; returns what there is no room for: the least recently used ones, or a scene that is too large."""
        self.forget(key)
        if scene.nbytes > self.budget:
            return [(key, model, scene)]
        self._scenes[key] = (model, scene)
        self.nbytes += scene.nbytes
        over: list[Entry] = []
        while self.nbytes > self.budget:
            oldest = next(iter(self._scenes))
            over.append((oldest, *self._scenes[oldest]))
            self.forget(oldest)
        return over

    def forget_model(self, name: str) -> None:
        """Forget the scenes of a model: their traces hold on to its weights."""
        for key in [key for key, (model, _) in self._scenes.items() if model == name]:
            self.forget(key)

    def forget(self, key: SceneKey) -> None:
        """Forget a scene."""
        if entry := self._scenes.pop(key, None):
            self.nbytes -= entry[1].nbytes


class Tiers:
    """Scenes in memory: `hot` on the device, and `warm` on the host for those that the device has no room for.

    Where the device is the host's own processor, all are warm. Belongs to the event loop.
    """

    def __init__(self, device: torch.device, *, hot: int, warm: int) -> None:
        self.device = device
        self.hot = SceneCache(0 if device.type == "cpu" else hot)
        self.warm = SceneCache(warm)
        self.hits = self.misses = 0
        self._locks: WeakValueDictionary[SceneKey, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """How many scenes are here."""
        return len(self.hot) + len(self.warm)

    @property
    def nbytes(self) -> int:
        """Memory that all take."""
        return self.hot.nbytes + self.warm.nbytes

    @property
    def budget(self) -> int:
        """Memory that all may take."""
        return self.hot.budget + self.warm.budget

    def __contains__(self, key: SceneKey) -> bool:
        """Whether a scene is here; looking does not use it."""
        return key in self.hot or key in self.warm

    @property
    def largest(self) -> int:
        """How large a scene can be to be kept."""
        return max(self.hot.budget, self.warm.budget)

    def get(self, key: SceneKey) -> Scene | None:
        """A scene, if it is here."""
        scene = self.hot.get(key) or self.warm.get(key)
        self.hits += scene is not None
        self.misses += scene is None
        return scene

    def lock(self, key: SceneKey) -> asyncio.Lock:
        """A lock that all have in common who want one scene: the first fetches it."""
        return self._locks.setdefault(key, asyncio.Lock())

    async def keep(self, key: SceneKey, model: str, scene: Scene) -> None:
        """Remember a scene; the device's least recently used ones move to the host, whose least recently used ones go."""
        self.warm.forget(key)
        if self.device.type == "cpu":
            self.warm.keep(key, model, scene)
            return
        for other, name, cooled in self.hot.keep(key, model, scene):
            self.warm.keep(other, name, await asyncio.to_thread(cooled.on, "cpu"))

    def forget_model(self, name: str) -> None:
        """Forget the scenes of a model."""
        self.hot.forget_model(name)
        self.warm.forget_model(name)
