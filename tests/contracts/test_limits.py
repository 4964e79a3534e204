"""What every field of a request may hold: the last value that is allowed, and the first that is not."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.schema.access import KeyCard, Limits
from contracts.schema.attribute import AttributeRequest
from contracts.schema.comparing import CausalOptions
from contracts.schema.datasets import DatasetRequest, PromptLine
from contracts.schema.fields import Schema
from contracts.schema.filters import Filters
from contracts.schema.images import GenerateRequest, ImageRequest
from contracts.schema.optimize import OptimizeRequest
from contracts.schema.previews import Gate
from contracts.schema.probe import ProbeRequest
from contracts.schema.tokens import ImportRequest
from contracts.schema.webhooks import Webhook

INFINITE, NONE_AT_ALL = float("inf"), float("nan")
MAX_SEED = 2**63 - 64  # the seeds of 64 images are below 2**63
JOB = "0" * 26
WORD = {"word": "car"}
STEERED: dict[str, Any] = {"name": "a", "image": "QUJD"}
EXAMPLE = {"job_id": JOB, "mask": "QUJD"}
BASES: dict[type[Schema], dict[str, Any]] = {
    GenerateRequest: {"prompt": "a car"},
    ImageRequest: {"image": "QUJD"},
    AttributeRequest: {"job_id": JOB, "targets": [WORD]},
    ProbeRequest: {"point": [0, 0], "words": ["car"]},
    OptimizeRequest: {"name": "car", "classes": ["car"], "examples": [EXAMPLE]},
    ImportRequest: {"name": "car", "format": "npy", "file": "QUJD"},
    Limits: {},
    KeyCard: {"name": "a", "tenant": "a", "scopes": ["read"], "created_at": "2026-11-22T10:00:00Z"},
    DatasetRequest: {"classes": [{"name": "car"}], "prompts": ["a car"]},
    PromptLine: {"prompt": "a car"},
    Filters: {},
    Gate: {"target": "car", "min_area": 0.1, "max_area": 0.9},
    Webhook: {"url": "https://a.example"},
}


def words(count: int) -> list[str]:
    return [f"w{number}" for number in range(count)]


def embedding(rows: int, width: int = 2) -> dict[str, Any]:
    return {"label": "x", "embedding": [[0.0] * width] * rows}


def semantic(**options: Any) -> dict[str, Any]:
    return {"semantic": options}


def example(**annotation: Any) -> dict[str, Any]:
    return {"examples": [{"job_id": JOB, **annotation}]}


def masked(mask: Any) -> list[dict[str, Any]]:
    return [{"job_id": JOB, "mask": mask}]


def runs(counts: list[int]) -> dict[str, Any]:
    return {"size": [1, 1], "counts": counts}


OUTLINE = [[0.0] * 6]
SIDE = ([8], [7, 8.5])
IMAGE = ([0, 7], [-1])
EITHER_SIDE = (GenerateRequest, ImageRequest)
FIELDS: list[tuple[type[Schema], str, list[Any], list[Any]]] = [
    (GenerateRequest, "prompt", ["x", "x" * 2000, " x "], ["", "  ", "x" * 2001]),
    (GenerateRequest, "negative_prompt", ["", "x" * 2000], ["x" * 2001]),
    (GenerateRequest, "model", ["a", "9" * 64, "a.b-c_d", None], ["", "9" * 65, "-a", "A", "a b", "a\n"]),
    (GenerateRequest, "seed", [0, MAX_SEED], [-1, MAX_SEED + 1]),
    (GenerateRequest, "num_inference_steps", [1, 1000], [0, 1001]),
    (GenerateRequest, "guidance_scale", [0, 50], [-0.01, 50.01, INFINITE, NONE_AT_ALL]),
    *((request, side, *SIDE) for request in EITHER_SIDE for side in ("height", "width")),
    (GenerateRequest, "num_images", [1], [0]),
    (GenerateRequest, "scheduler", ["x" * 64], ["x" * 65]),
    (GenerateRequest, "clip_skip", [0, 63], [-1, 64]),
    (
        GenerateRequest,
        "adapters",
        [[{"name": "a", "scale": -4}, {"name": "b", "scale": 4}], [{"name": f"a{each}"} for each in range(8)]],
        [[{"name": "a", "scale": -4.1}], [{"name": "a", "scale": 4.1}], [{"name": f"a{each}"} for each in range(9)]],
    ),
    (
        GenerateRequest,
        "control",
        [STEERED | {"scale": 0, "start": 0.99, "end": 1}, STEERED | {"scale": 2, "start": 0, "end": 0.01}],
        [STEERED | each for each in ({"scale": -0.1}, {"scale": 2.1}, {"start": -0.1}, {"end": 1.1}, {"start": 1.0}, {"end": 0})],
    ),
    (GenerateRequest, "image_prompt", [STEERED | {"scale": 2}], [STEERED | {"scale": 2.1}, {"name": "a"}]),
    (
        GenerateRequest,
        "emphasis",
        [[{"word": "a", "weight": 0, "occurrence": 0}], [{"word": "a", "weight": 2}] * 64],
        [[{"word": "a", "weight": -0.1}], [{"word": "a", "weight": 2.1}], [{"word": "a", "weight": 1}] * 65],
    ),
    (
        GenerateRequest,
        "capture",
        [{"blocks": ["x" * 200, 1]}, {"blocks": ["a"] * 200}],
        [{"blocks": []}, {"blocks": ["a"] * 201}],
    ),
    (GenerateRequest, "capture", [{"blocks": "all"}], [{"blocks": ["x" * 201]}, {"blocks": [0]}, {"blocks": ["a b"]}]),
    (GenerateRequest, "capture", [{"heads": [0] * 1000}, {"heads": 0.0}], [{"heads": []}, {"heads": [0] * 1001}]),
    (GenerateRequest, "capture", [{"evaluations": 0.99}, {"evaluations": -1}], [{"evaluations": each} for each in (1.5, -0.1)]),
    (ImageRequest, "prompt", ["", "x" * 2000], ["x" * 2001]),
    (ImageRequest, "image", ["QUJD"], [""]),
    (ImageRequest, "seed", [0, MAX_SEED], [-1, MAX_SEED + 1]),
    (ImageRequest, "timesteps", [[0], [999] * 1000], [[], [-1], [1000], [0] * 1001]),
    (ImageRequest, "capture", [{"branch": "conditional"}], [{"branch": "unconditional"}]),
    (AttributeRequest, "job_id", ["a" * 26], ["a" * 25, "a" * 27, "A" * 26]),
    (AttributeRequest, "image", *IMAGE),
    (AttributeRequest, "targets", [[WORD] * 64], [[], [WORD] * 65, [{}], [WORD | {"token": "a"}]]),
    (AttributeRequest, "distractors", [[], [WORD] * 64], [[WORD] * 65]),
    (
        AttributeRequest,
        "targets",
        [[WORD | {"occurrence": 0}]],
        [[WORD | {"occurrence": -1}], [{"prompt": "a", "occurrence": 0}]],
    ),
    (AttributeRequest, "targets", [[WORD | {"label": "x" * 100}]], [[WORD | {"label": each}] for each in ("", "x" * 101)]),
    (
        AttributeRequest,
        "targets",
        [[embedding(77)], [embedding(2, 16384)]],
        [[embedding(78)], [embedding(2, 16385)], [embedding(1)]],
    ),
    (
        AttributeRequest,
        "targets",
        [[embedding(1) | {"rows": [0]}], [embedding(3) | {"rows": [0, 2]}]],
        [[embedding(3) | {"rows": rows}] for rows in ([], [-1], [3])],
    ),
    (
        AttributeRequest,
        "targets",
        [[{"token": each}] for each in ("cat", "cat@1", "cat@999999999")],
        [[{"token": each}] for each in ("cat@", "cat@0", "cat@01", "cat@1234567890", "cat@1\u0663", "Cat")],
    ),
    (AttributeRequest, "maps", [["block", "evaluation", "head"]], [["block", "block"], ["row"]]),
    (AttributeRequest, "semantic", [{"least_gap": 0}, {"least_gap": 1}], [{"least_gap": each} for each in (-0.01, 1.01)]),
    (AttributeRequest, "semantic", [{"labels": [1]}, {"labels": [254]}], [{"labels": each} for each in ([], [0], [255], [1, 2])]),
    (AttributeRequest, "instances", [{"minimum_area": 1}, {"minimum_area": 2**30}], [{"minimum_area": 0}, {"connectivity": 6}]),
    (
        AttributeRequest,
        "causal",
        [{"from_evaluation": each} for each in (0, 1000, 0.99)],
        [{"from_evaluation": each} for each in (-1, 1001, -0.1, 1.5, NONE_AT_ALL)],
    ),
    (ProbeRequest, "image", *IMAGE),
    (ProbeRequest, "point", [[0, 0]], [[-1, 0], [0, -1], [0], None]),
    (ProbeRequest, "words", [["x"], words(64)], [[], words(65), ["a", "A"], [""], None]),
    (ProbeRequest, "box", [None], [[0, 0, 1, 1]]),  # beside the point
    (OptimizeRequest, "classes", [["x" * 100]], [[], ["a", "b"], ["a", "a"], ["x" * 101]]),  # with one class' mask
    (OptimizeRequest, "examples", [[EXAMPLE] * 64], [[], [EXAMPLE] * 65, [EXAMPLE | {"labels": "QUJD"}], [{"job_id": JOB}]]),
    (OptimizeRequest, "examples", [[EXAMPLE | {"image": 0}]], [[EXAMPLE | {"image": -1}]]),
    (OptimizeRequest, "examples", [[{"job_id": JOB, "masks": {"car": "QUJD"}}]], [[{"job_id": JOB, "masks": {}}]]),
    (
        OptimizeRequest,
        "examples",
        [masked(OUTLINE), masked([[0.0] * 20_000]), masked(OUTLINE * 1000)],
        [masked(each) for each in ([], [[0.0] * 5], [[0.0] * 20_001], OUTLINE * 1001, None)],
    ),
    (OptimizeRequest, "examples", [masked(runs([0] * 2**20))], [masked(runs(each)) for each in ([0] * (2**20 + 1), [-1])]),
    (OptimizeRequest, "initial", [[None], [{"embedding": [0.0] * 16384}]], [[None] * 2, [{"embedding": [0.0] * 16385}], [{}]]),
    (OptimizeRequest, "noise", [0, 100], [-0.01, 100.01, NONE_AT_ALL]),
    (OptimizeRequest, "seed", [0, 2**63 - 1], [-1, 2**63]),
    (OptimizeRequest, "epochs", [1, 5000], [0, 5001]),
    (OptimizeRequest, "learning_rate", [1e-9, 1e4], [0, 1.01e4, INFINITE]),
    (OptimizeRequest, "patience", [1, 5000, None], [0, 5001]),
    (ImportRequest, "classes", [["x"], words(32)], [[], ["a", "a"], words(33)]),
    (ImportRequest, "file", ["QUJD"], [""]),
    (ImportRequest, "name", ["a"], [None]),
    (Limits, "requests_per_second", [0.001, 100_000, None], [0, -1, 100_001, INFINITE]),
    (KeyCard, "scopes", [["read"], ["read", "generate", "admin"]], [[], ["write"]]),
    (
        DatasetRequest,
        "classes",
        [[{"name": "car", "label": each}] for each in (1, 254)],
        [[], *([{"name": "car", "label": each}] for each in (0, 255))],
    ),
    (
        DatasetRequest,
        "generation",
        [{"height": 8, "width": 8}, {"num_inference_steps": 1}],
        [{"height": 7}, {"width": 7}, {"num_inference_steps": 0}],
    ),
    (DatasetRequest, "concurrency", [1, 256, None], [0, 257]),
    (DatasetRequest, "images_per_prompt", [1, 10**6], [0, 10**6 + 1]),
    (PromptLine, "classes", [["a"], words(64)], [[], words(65)]),
    (
        Filters,
        "area",
        [{"kind": "percentiles", "least": each} for each in (0, 50)],
        [{"kind": "percentiles", "least": each} for each in (-1, 51, NONE_AT_ALL)],
    ),
    (
        Filters,
        "area",
        [{"kind": "share", "least": 0, "most": each} for each in (0, 1)],
        [{"kind": "share", "least": 0, "most": each} for each in (-0.1, 1.1, NONE_AT_ALL)],
    ),
    (
        Filters,
        "area",
        [{"kind": "share", "least": each, "most": 0.5} for each in (0, 0.5)],
        [{"kind": "share", "least": each, "most": 0.5} for each in (-0.1, 0.51)],
    ),
    (
        Filters,
        "confidence",
        [{"least": each, "most": 0.5} for each in (0, 0.5)],
        [{"least": each, "most": 0.5} for each in (-0.1, 0.51)],
    ),
    (
        Filters,
        "clip",
        [{"kind": "cosine", "drop": each} for each in (0, 0.99)],
        [{"kind": "cosine", "drop": each} for each in (-0.1, 1)],
    ),
    (Gate, "at", [0.001, 1], [0, 1.01, NONE_AT_ALL]),
    (Gate, "min_area", [0, 0.9], [-0.01, 0.91, NONE_AT_ALL]),
    (Gate, "max_area", [0.1, 1], [0.09, 1.01, INFINITE]),
    (Gate, "seeds", [1, 16], [0, 17]),
    (Webhook, "events", [["failed"]], [[], ["queued"]]),
    *((Limits, name, [1], [0, -1]) for name in ("queued", "device_seconds_per_day", "bytes_kept")),
]


@pytest.mark.parametrize(
    ("request_type", "field", "allowed", "refused"), FIELDS, ids=[f"{row[0].__name__}-{row[1]}" for row in FIELDS]
)
def test_a_field_takes_what_is_at_its_limit_and_nothing_beyond_it(
    request_type: type[Schema], field: str, allowed: list[Any], refused: list[Any]
) -> None:
    reader = TypeAdapter(request_type)
    for value in allowed:
        reader.validate_python(BASES[request_type] | {field: value})
    for value in refused:
        with pytest.raises(ValidationError):
            reader.validate_python(BASES[request_type] | {field: value})


def test_a_word_is_left_out_from_a_position_or_a_part_of_the_way_on() -> None:
    found = [CausalOptions(from_evaluation=each).from_evaluation for each in (1, 1.0, 0.5)]
    assert [(each, type(each)) for each in found] == [(1, int), (1, int), (0.5, float)]


def test_a_gate_lets_some_images_through_and_not_all() -> None:
    for least, most in ((0, 0.99), (0.01, 1)):
        assert Gate(target="car", min_area=least, max_area=most).at == 0.5
    with pytest.raises(ValidationError, match="which every image passes"):
        Gate(target="car")
    with pytest.raises(ValidationError, match="above `max_area`"):
        Gate(target="car", min_area=0.6, max_area=0.5)
