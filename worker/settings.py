"""The worker's settings. Each is an `OVAM_*` variable, read once, when the process starts."""

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from contracts.schema.fields import Name
from contracts.settings import CommonSettings

MODELS = Path(__file__).resolve().parents[1] / "models"
BUNDLED, BUNDLED_CLIP = MODELS / "world", MODELS / "clip"
MIB = 1 << 20
JOBS_ON_GPU = 8

Source = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class WorkerSettings(CommonSettings):
    """What a worker serves, on what, and within which limits."""

    models: dict[Name, Source] = Field(
        default_factory=lambda: {"world": str(BUNDLED)},
        min_length=1,
        description='models by name, as JSON: {"name": "hub id or path"}',
    )
    adapters: dict[Name, Source] = Field(
        default_factory=dict[Name, Source],
        description='LoRAs, textual inversions, ControlNets and IP-Adapters by name, as JSON: {"name": "hub id or path"}',
    )
    default_model: str = Field("", description="the model of requests that name none; by default `world`, else the first")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: str = Field(
        "auto",
        pattern=r"^(auto|float32|float16|bfloat16)$",
        description="of the weights: auto is float16 on a GPU and float32 on a CPU; or float32, float16, bfloat16; "
        "half precision of transformers is bfloat16",
    )
    offload: bool = Field(
        default=False,
        description="keep weights in the host's memory, and on the GPU only the part of a pipeline that computes: "
        "for models that do not fit; slower",
    )
    preload: bool = Field(default=True, description="load and warm the default model before the first job is taken")
    max_loaded_models: int = Field(2, ge=1, le=64, description="models kept in memory; the least recently used goes first")
    keep: Literal["replay", "queries"] = Field(
        "replay", description="what is stored of an image's attention when a request does not say: replay (small) or queries"
    )
    trace_cache_bytes: int = Field(512 * MIB, ge=0, description="memory for the traces that were used last")
    device_cache_bytes: int = Field(4096 * MIB, ge=0, description="memory of a GPU for the traces that were used last")
    batch_images: int = Field(4, ge=1, le=64, description="images of one job that the UNet draws at a time")
    batch_jobs: int = Field(
        0, ge=0, le=64, description="generate jobs that are drawn together if they differ in prompts alone; 0: 8 on a GPU, else 1"
    )
    batch_window_seconds: float = Field(
        0.0, ge=0, le=10, description="how long a generate job whose turn it is waits for others to be drawn with it"
    )
    long_jobs: int = Field(2, ge=1, le=16, description="normal jobs, and as many bulk ones, a worker holds: one has the device")
    short_jobs: int = Field(4, ge=1, le=64, description="interactive attribute, probe and import jobs a worker holds at a time")
    crf_backend: str = Field(
        "simplecrf",
        pattern="^(simplecrf|torch)$",
        description="what fits masks to edges: simplecrf in processes of its own, or torch on the device; they agree",
    )
    redelivery_seconds: float = Field(5.0, ge=0.5, le=600, description="silence after which a worker counts as dead")
    grace_seconds: float = Field(3.0, ge=0, le=600, description="time for running jobs to finish when the worker is stopped")
    janitor_seconds: float = Field(15.0, ge=0.1, le=3600, description="time between two searches for lost and for expired jobs")
    store_bytes: int = Field(
        0, ge=0, description="bytes that all jobs' files may take; beyond that those used longest ago go; 0: any number"
    )
    store_patience_seconds: float = Field(
        600.0, ge=0, le=86_400, description="how long a job waits for a store that fails, before it fails itself"
    )
    clip: str | None = Field(
        None,
        description="CLIP model by which data sets are filtered: hub id or path; by default the bundled one where the bundled "
        "model is all that is served, whose pictures alone it knows, else none",
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads for tensors; 0: as many as there are cores")
    metrics_host: str = Field("127.0.0.1", min_length=1, description="address on which the worker answers /metrics and /healthz")
    metrics_port: int = Field(0, ge=0, le=65_535, description="port on which the worker answers them; 0: it does not")
    worker_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        max_length=200,
        description="name in heartbeats and logs; by default host and process id",
    )

    @field_validator("default_model")
    @classmethod
    def is_served(cls, name: str, others: ValidationInfo) -> str:
        """The default model must be one of the models."""
        models = others.data.get("models", {})
        if name and models and name not in models:
            msg = f"it is not in OVAM_MODELS; allowed: {', '.join(models)}"
            raise ValueError(msg)
        return name

    def jobs_at_once(self, *, on_cpu: bool) -> int:
        """How many generate jobs are drawn together."""
        return self.batch_jobs or (1 if on_cpu else JOBS_ON_GPU)

    def offloads(self, *, on_cpu: bool) -> bool:
        """Whether weights wait in the host's memory; on a CPU they are there anyway."""
        return self.offload and not on_cpu

    @property
    def chosen_clip(self) -> str:
        """The CLIP by which data sets are filtered; none: empty."""
        if self.clip is not None:
            return self.clip
        return str(BUNDLED_CLIP) if set(self.models.values()) == {str(BUNDLED)} else ""

    @property
    def default(self) -> str:
        """The name of the default model."""
        return self.default_model or ("world" if "world" in self.models else next(iter(self.models)))
