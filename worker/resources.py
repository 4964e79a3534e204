"""What the handlers work with; opened once, when the worker starts."""

from dataclasses import dataclass, field

import torch
from redis.asyncio import Redis

from contracts.state.ledger import Ledger
from contracts.state.registry import Registry
from contracts.state.store import ArtifactStore
from worker.batches import Batches
from worker.clip import Clip
from worker.crf import CrfOnDevice, CrfProcesses
from worker.device import DeviceGate
from worker.metrics import Metrics
from worker.models import Models
from worker.occupant import Occupant
from worker.scenes import Tiers
from worker.settings import WorkerSettings
from worker.together import Questions


@dataclass(frozen=True, eq=False)
class Resources:
    """Connections, caches and the device."""

    settings: WorkerSettings
    redis: Redis
    ledger: Ledger
    store: ArtifactStore
    models: Models
    gate: DeviceGate
    occupant: Occupant
    batches: Batches
    scenes: Tiers
    crf: CrfProcesses | CrfOnDevice
    device: torch.device
    clip: Clip | None = None
    metrics: Metrics = field(default_factory=Metrics)
    questions: Questions = field(default_factory=Questions)

    @property
    def registry(self) -> Registry:
        """The learned tokens of the tenant whose jobs the ledger shows."""
        return Registry(self.redis, self.ledger.tenant or "")
