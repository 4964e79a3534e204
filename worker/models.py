"""The models a worker serves: loaded from the hub or a folder, the least recently used one dropped."""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakValueDictionary

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from contracts.schema.adapters import UsedAdapter
from contracts.schema.errors import Code, ServiceError
from contracts.schema.models import ModelCard
from ovam.attention.heatmaps import heatmaps
from ovam.attention.text import encode
from ovam.errors import NotReplayableError
from ovam.tracing.binding import weights_hash
from ovam.tracing.capture import capture
from ovam.tracing.model import Pipeline, plain_unet
from worker import schedulers
from worker.adapted import Used, adapted, load_controlnet, of_kind
from worker.adapters import AdapterFile, UnusableAdapterError, read_adapter
from worker.calling import called
from worker.cards import read_card, read_index
from worker.device import DeviceGate, Priority
from worker.kinds import KINDS
from worker.pipelines import Start, pipeline_of
from worker.timing import phase

NO_ADAPTERS: Final[Mapping[str, str]] = MappingProxyType({})

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model."""

    card: ModelCard
    pipeline: Pipeline
    """Shared by all jobs, which must not change it; see `lent`."""
    device: torch.device
    weights: str = ""
    """Hash of its UNet's weights; empty where they are not all there to be hashed."""
    controlnet: Any = None
    """What its pipeline has besides for jobs that follow an image."""
    offloaded: bool = False
    """Whether its weights wait in the host's memory, and a part is on the device while it computes."""


@contextmanager
def lent(model: Model, scheduler: str | None = None, *, start: Start = "text") -> Iterator[Pipeline]:
    """Yield a pipeline for one job: the model's own weights, with a scheduler and a state that no other job sees."""
    plain = start == "text" and model.controlnet is None
    pipeline = copy(model.pipeline) if plain else pipeline_of(model.pipeline, start, model.controlnet)
    pipeline.scheduler = schedulers.new_scheduler(scheduler or model.card.default_scheduler, model.pipeline.scheduler)
    dtype = pipeline.vae.dtype
    try:
        yield pipeline
    finally:
        if pipeline.vae.dtype != dtype:  # SDXL decodes half precision in float32, and after an error would leave it so
            pipeline.vae.to(dtype=dtype)


class Models:
    """Models by name, loaded on first use."""

    def __init__(
        self,
        sources: Mapping[str, str],
        load: Callable[[str, str], Model],
        gate: DeviceGate,
        *,
        most: int,
        dropped: Callable[[str], None],
        adapters: Mapping[str, str] = NO_ADAPTERS,
    ) -> None:
        self.sources = sources
        self.adapters = adapters
        self._adapted: WeakValueDictionary[tuple[Model, tuple[UsedAdapter, ...]], Model] = WeakValueDictionary()
        self._load = load
        self._gate = gate
        self._most = most
        self._dropped = dropped
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory, the least recently used first."""
        return list(self._loaded)

    async def get(self, name: str, adapters: Sequence[UsedAdapter] = ()) -> Model:
        """Return a model, loaded if need be, with adapters, which are gone when nobody holds it any more.

        ServiceError: unknown-model, model-failed-to-load, unknown-adapter, adapter-unfit.
        """
        model = await self._plain(name)
        return await self._with(model, tuple(adapters)) if adapters else model

    async def _with(self, model: Model, uses: tuple[UsedAdapter, ...]) -> Model:
        """Return a model with adapters: one for all jobs that use the same at the same time."""
        key = model, uses
        async with self._locks[model.card.name]:
            found = self._adapted.get(key)
            if found is None:
                with phase("load"):
                    files = await asyncio.to_thread(lambda: [file_of(use, self.adapters) for use in uses])
                    load = partial(with_adapters, model, [(file, use.scale) for file, use in zip(files, uses, strict=True)])
                    found = await asyncio.wrap_future(self._gate.submit(Priority.INTERACTIVE, load))
                self._adapted[key] = found
            return found

    async def _plain(self, name: str) -> Model:
        """Return a model as it is."""
        if name not in self.sources:
            served = ", ".join(self.sources)
            raise ServiceError(Code.UNKNOWN_MODEL, f"no model {name!r} here; served: {served}", field="model", value=name)
        async with self._locks[name]:
            model = self._loaded.get(name)
            if model is None:
                with phase("load"):
                    model = await self._read(name)
                self._loaded[name] = model
            self._loaded.move_to_end(name)
        while len(self._loaded) > self._most:
            oldest, _ = self._loaded.popitem(last=False)
            self._dropped(oldest)
        return model

    async def _read(self, name: str) -> Model:
        source = self.sources[name]
        log.info("loading model %s from %s", name, source)
        try:
            # Loading sets defaults of the whole process for a while, so nothing else may work with tensors meanwhile.
            return await asyncio.wrap_future(self._gate.submit(Priority.INTERACTIVE, lambda: self._load(name, source)))
        except (torch.OutOfMemoryError, MemoryError, ServiceError):
            raise
        except OSError as error:  # files are missing; the message names them
            raise ServiceError(Code.MODEL_FAILED_TO_LOAD, f"model {name!r}: {error}", field="model", value=name) from error
        except Exception as error:
            log.exception("model %s does not load from %s", name, source)
            detail = f"model {name!r} does not load from {source!r} ({type(error).__name__})"
            raise ServiceError(Code.MODEL_FAILED_TO_LOAD, detail, field="model", value=name) from error


def file_of(use: UsedAdapter, sources: Mapping[str, str]) -> AdapterFile:
    """Return the file of an adapter, if it is the one that is meant. ServiceError (unknown-adapter, adapter-unfit)."""
    if use.name not in sources:
        detail = f"adapter {use.name!r} is not here; registered: {', '.join(sources) or 'none'} (OVAM_ADAPTERS)"
        raise ServiceError(Code.UNKNOWN_ADAPTER, detail, field="adapters", value=use.name)
    try:
        found = read_adapter(use.name, sources[use.name])
    except UnusableAdapterError as error:
        detail = f"adapter {use.name!r} cannot be used: {error}"
        raise ServiceError(Code.ADAPTER_UNFIT, detail, field="adapters", value=use.name) from error
    if found.weights != use.weights:
        detail = f"adapter {use.name!r} is another file now ({found.weights}); meant: {use.weights}"
        raise ServiceError(Code.UNKNOWN_ADAPTER, detail, field="adapters", value=use.name)
    return found


def with_adapters(model: Model, uses: Sequence[Used]) -> Model:
    """Return a model with adapters; the model itself stays as it is, whatever goes wrong. ServiceError: adapter-unfit."""
    try:
        inside = [each for each in uses if each[0].kind != "controlnet"]
        control = [load_controlnet(adapter, model.pipeline.unet) for adapter, _ in of_kind(uses, "controlnet")]
        pipeline = adapted(model.pipeline, inside) if inside else model.pipeline
        if model.offloaded and inside:  # what was copied is as yet nowhere but in the host's memory
            pipeline.enable_model_cpu_offload(device=model.device)
        return replace(model, pipeline=pipeline, controlnet=control[0] if control else None)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        names = ", ".join(repr(adapter.name) for adapter, _ in uses)
        log.exception("the adapters %s do not load into model %s", names, model.card.name)
        detail = (
            f"adapters {names} do not load into model {model.card.name!r} ({type(error).__name__}); the worker's log has more"
        )
        raise ServiceError(Code.ADAPTER_UNFIT, detail, field="adapters", value=names) from error


def chosen_device(name: str) -> torch.device:
    """Return the device of a setting; ValueError if this machine lacks it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():  # torch itself takes 256 for 0
        there = f"cuda:0 to cuda:{torch.cuda.device_count() - 1}" if torch.cuda.device_count() else "none that torch can use"
        raise ValueError(f"OVAM_DEVICE={name}: there is no such GPU on this machine (GPUs: {there}); allowed: auto, cpu")
    return torch.device(kind, int(number)) if number else torch.device(kind)


def chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the floating type of a setting; `auto` is float16 on a GPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def load_model(
    name: str, source: str, *, device: torch.device, dtype: torch.dtype, default: bool, offload: bool = False
) -> Model:
    """Load a text to image pipeline from a hub id or a folder."""
    card = read_card(name, source, default=default)
    kind = KINDS[read_index(source)["_class_name"]]
    pipeline = kind.pipeline.from_pretrained(source, dtype=kind.dtype(dtype), **kind.loading)
    pipeline.set_progress_bar_config(disable=True)
    if offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    weights = ""
    with suppress(NotReplayableError):
        weights = weights_hash(plain_unet(pipeline))  # takes seconds, which the first generation need not wait for
    return Model(card, pipeline, device, weights, offloaded=offload)


def hide_progress_bars() -> None:
    """Keep progress bars of loading out of the log."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def loader(device: torch.device, dtype: torch.dtype, default: str, *, offload: bool = False) -> Callable[[str, str], Model]:
    """Return the function that loads this worker's models."""

    def load(name: str, source: str) -> Model:
        return load_model(name, source, device=device, dtype=dtype, default=name == default, offload=offload)

    return load


def warm(model: Model) -> None:
    """Generate and attribute once, so that the first job does not pay for what happens only once."""
    card = model.card
    with lent(model) as pipeline, capture(pipeline) as traces:
        called(
            pipeline,
            prompt="a photograph",
            height=card.default_height,
            width=card.default_width,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
        )
    embedding, _ = encode(model.pipeline, "a photograph")
    heatmaps(traces[0], embedding)
