"""What each stored form of an image's attention takes, and how far its answers are from exact ones."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

import ovam
from benchmarks.library import STEPS, generate, load
from benchmarks.result import Result, Setup
from benchmarks.shapes import SD15, random_trace

WORDS = ("sun", "house", "tree", "boat", "sky", "car", "cat", "grass")
FORMS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
MOST_BYTES = {"int8": 0.51}
MOST_ERROR = {"replay": 1e-5}
LEAST_IOU = {"int8": 0.999}
EVALUATIONS = 2  # of random queries: bytes for each evaluation are the same however many there are


def stored(setup: Setup) -> Iterator[Result]:
    """Bytes, error and masks of replays and of stored queries, beside the queries themselves in single precision."""
    pipeline = load(setup)
    with ovam.capture(pipeline) as traces, ovam.capture_replay(pipeline) as replays:
        generate(pipeline)
    exact, replay = heats(traces[0], pipeline), replays[0].to_bytes()
    files: dict[str, tuple[int, Callable[[], ovam.Trace]]] = {
        "replay": (len(replay), lambda: ovam.Replay.from_bytes(replay).trace(pipeline))
    }
    for form, dtype in FORMS.items():
        data = traces[0].to_bytes(dtype)
        files[form] = len(data), lambda data=data: ovam.Trace.from_bytes(data, pipeline)
    for form, (size, again) in files.items():
        found = heats(again(), pipeline)
        yield from compared(f"stored/{setup.model.name}/{form}", form, size, files["float16"][0], exact, found)
    whole, eighth = (len(random_trace(SD15, EVALUATIONS).to_bytes(dtype)) for dtype in (torch.float16, torch.int8))
    yield Result(
        name="stored/SD 1.5/int8 bytes",
        says="queries of SD 1.5's shapes in 8 bits: bytes over those in half precision",
        value=eighth / whole,
        unit="x",
        goal=MOST_BYTES["int8"],
        samples=[eighth / whole],
        details={"bytes_an_evaluation_float16": whole // EVALUATIONS, "bytes_an_evaluation_int8": eighth // EVALUATIONS},
    )


def compared(
    name: str, form: str, size: int, half: int, exact: list[ovam.Segment], found: list[ovam.Segment]
) -> Iterator[Result]:
    """Three rows: bytes, error of heatmaps, agreement of masks."""
    away = max(float(np.abs(a.heatmap - b.heatmap).max() / np.abs(a.heatmap).max()) for a, b in zip(exact, found, strict=True))
    agree = min(iou(a.mask, b.mask) for a, b in zip(exact, found, strict=True))
    what = f"an image of the bundled model, {STEPS} steps, kept as {form}"
    yield Result(
        name=f"{name} bytes",
        says=f"{what}: bytes over those of queries in half precision",
        value=size / half,
        unit="x",
        goal=MOST_BYTES.get(form),
        samples=[size / half],
        details={"bytes": size},
    )
    yield Result(
        name=f"{name} error",
        says=f"{what}: largest difference of heatmaps, of their maximum",
        value=away,
        unit="",
        goal=MOST_ERROR.get(form),
        samples=[away],
    )
    yield Result(
        name=f"{name} masks",
        says=f"{what}: least IoU of masks with exact ones",
        value=agree,
        unit="",
        least=LEAST_IOU.get(form),
        samples=[agree],
        details={"words": len(WORDS)},
    )


def heats(trace: ovam.Trace, pipeline: StableDiffusionPipeline) -> list[ovam.Segment]:
    """Heatmaps and masks of words, by a published method without refinement, which would hide differences."""
    with torch.inference_mode():
        return list(ovam.segment(trace, pipeline, WORDS, "daam"))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks; 1 for two empty ones."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0
