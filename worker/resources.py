"""What the handlers work with; opened once, when the worker starts."""

from dataclasses import dataclass

import torch
from redis.asyncio import Redis

from contracts.ledger import Ledger
from contracts.store import ArtifactStore
from worker.gpu import GpuGate
from worker.models import Models
from worker.settings import WorkerSettings
from worker.traces import SceneCache


@dataclass(frozen=True, eq=False)
class Resources:
    """Connections, caches and the device."""

    settings: WorkerSettings
    redis: Redis
    ledger: Ledger
    store: ArtifactStore
    models: Models
    gate: GpuGate
    scenes: SceneCache
    device: torch.device
