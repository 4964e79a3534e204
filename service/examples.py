"""What the API's documentation shows: one story, from a generated image to a learned token. Held to the schemas by a test."""

from typing import Any

Json = dict[str, Any]

GENERATION = "01ksy0k3vrm8f6h2p9t4w7x1ab"
ATTRIBUTION = "01ksy0kzq4c5d7e9g1j3n5r8st"
IMAGE_TAKING = "01ksy0kc7m2b4d6f8h0j2n4q6s"
PROBING = "01ksy0m1x8z3b5d7f9h2k4m6np"
OPTIMIZATION = "01ksy0n9b2d4f6h8k0m2p4r6tv"
IMPORTATION = "01ksy0q2xk5c7e9g1j3n5r8t2v"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAJklEQVR42u3MMQ0AAAgDsPk3DQpIuOBpBTQBgEEtCQ"
    "QCgeAiAHjV6slsvmp6USEAAAAASUVORK5CYII="
)
NPY = (  # two rows of two numbers: a model's are longer
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDIpLCB9ICAgICAg"
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAADwAvA=="
)


def artifact(job_id: str, name: str, media_type: str = "image/png", size: int = 7311) -> Json:
    """An artifact of a job."""
    return {"name": name, "media_type": media_type, "size": size, "sha256": SHA256, "url": f"/v1/jobs/{job_id}/artifacts/{name}"}


GENERATE: Json = {
    "prompt": "a photograph of a red car on grass",
    "seed": 7,
    "num_inference_steps": 30,
    "num_images": 1,
}
GENERATE_FILLED: Json = GENERATE | {
    "negative_prompt": "",
    "model": "tiny",
    "guidance_scale": 3.0,
    "height": 64,
    "width": 64,
    "scheduler": "DDIMScheduler",
    "capture": {
        "half": "conditional",
        "blocks": None,
        "mid_block": False,
        "evaluations": None,
        "heads": None,
        "self_attention": False,
    },
}
BLOCK: Json = {"name": "up_blocks.0.attentions.0.transformer_blocks.0.attn2", "grid": [4, 4], "heads": 5}
ATTRIBUTE: Json = {
    "job_id": GENERATION,
    "image": 0,
    "targets": [
        {"label": "car", "prompt": "a photograph of a car", "word": "car"},
        {"label": "wheel", "prompt": "the wheel of a car", "word": "wheel", "settings": {"tau": 0.7}},
        {"label": "learned car", "token": "car@1"},
    ],
    "evaluations": {"start": 10},
    "semantic": {"margin": 0.05},
}
OPTIMIZE: Json = {
    "name": "car",
    "classes": ["car"],
    "examples": [{"job_id": GENERATION, "image": 0, "mask": PNG}],
    "epochs": 300,
}
QUEUED: Json = {
    "id": GENERATION,
    "kind": "generate",
    "state": "queued",
    "request": GENERATE_FILLED,
    "created_at": "2026-11-22T10:00:00Z",
    "expires_at": "2026-11-23T10:00:00Z",
    "attempt": 0,
    "cancel_requested": False,
}
SUCCEEDED: Json = QUEUED | {
    "state": "succeeded",
    "started_at": "2026-11-22T10:00:00.020Z",
    "finished_at": "2026-11-22T10:00:03.100Z",
    "attempt": 1,
    "progress": {"done": 30, "total": 30, "unit": "step"},
    "result": {
        "model": "tiny",
        "height": 64,
        "width": 64,
        "num_inference_steps": 30,
        "guidance_scale": 3.0,
        "scheduler": "DDIMScheduler",
        "evaluations": 30,
        "timesteps": [float(step) for step in range(958, 0, -33)],
        "blocks": [BLOCK],
        "self_attention": False,
        "images": [{"index": 0, "seed": 7, "image": artifact(GENERATION, "image-0.png"), "trace_bytes": 1843200}],
    },
}
CANCELED: Json = QUEUED | {"state": "canceled", "finished_at": "2026-11-22T10:00:01Z"}
ATTRIBUTE_QUEUED: Json = QUEUED | {"id": ATTRIBUTION, "kind": "attribute", "request": ATTRIBUTE}
CRF: Json = {
    "bilateral_weight": 10.0,
    "bilateral_distance": 80.0,
    "bilateral_colour": 13.0,
    "gaussian_weight": 3.0,
    "gaussian_distance": 3.0,
    "iterations": 5,
}
PLAIN: Json = {
    "padding": "none",
    "reduction": "mean",
    "blocks": ["."],
    "evaluations": {},
    "heads": {},
    "refine": "none",
    "alpha": 0.85,
    "sign": 1,
    "affinity_steps": 1,
    "threshold": "share",
    "tau": 0.4,
    "normalize": "max",
    "crf": False,
    "minimum_area": 0,
    "fill_holes": False,
}
METHODS: list[Json] = [  # a test holds them to the library's
    {
        "name": "attn2mask",
        "source": "Yoshihashi et al., Attention as Annotation: Generating Images and Pseudo-masks, arXiv 2309.01369",
        "words": PLAIN | {"tau": 0.4, "normalize": "minmax", "evaluations": 0.5, "crf": CRF},
        "tokens": PLAIN | {"tau": 0.6, "normalize": "minmax", "evaluations": 0.5, "crf": CRF},
    },
    {
        "name": "daam",
        "source": "Tang et al., What the DAAM: Interpreting Stable Diffusion Using Cross Attention, ACL 2023, arXiv 2210.04885",
        "words": PLAIN,
        "tokens": PLAIN | {"tau": 0.8},
    },
    {
        "name": "ovam",
        "source": "Marcos-Manchón et al., Open-Vocabulary Attention Maps with Token Optimization, CVPR 2024, arXiv 2403.14291",
        "words": PLAIN | {"refine": "attention", "crf": CRF},
        "tokens": PLAIN | {"refine": "attention", "tau": 0.8, "alpha": 0.95, "crf": CRF},
    },
]
SEGMENT: Json = {
    "target": ATTRIBUTE["targets"][0],
    "method": "ovam",
    "settings": {field: value for field, value in PLAIN.items() if field not in ("alpha", "sign", "affinity_steps")}
    | {"evaluations": {"start": 10}, "tau": 0.5, "normalize": "minmax"},
    "score": 0.71,
    "area": 640,
    "bbox": [12, 24, 40, 22],
    "rle": {"size": [64, 64], "counts": "n`01n13L4M3N2N1O2N1O1O1O001O0000001O1O1O2N2M4Kdf0"},
    "polygons": [[12.0, 30.0, 30.0, 24.0, 51.0, 33.0, 50.0, 45.0, 13.0, 45.0]],
    "heatmap": artifact(ATTRIBUTION, "heatmap-0.png"),
    "heatmap_npy": artifact(ATTRIBUTION, "heatmap-0.npy", "application/octet-stream", 16512),
    "refined_npy": artifact(ATTRIBUTION, "refined-0.npy", "application/octet-stream", 16512),
    "mask": artifact(ATTRIBUTION, "mask-0.png", size=214),
    "overlay": artifact(ATTRIBUTION, "overlay-0.png"),
}
SEMANTIC: Json = {
    "map": artifact(ATTRIBUTION, "semantic.png", size=803),
    "labels": {"0": "background", "1": "car", "255": "unsure"},
    "areas": {"0": 3320, "1": 610, "255": 166},
}
ATTRIBUTE_SUCCEEDED: Json = ATTRIBUTE_QUEUED | {
    "state": "succeeded",
    "request": ATTRIBUTE | {"targets": ATTRIBUTE["targets"][:1]},
    "started_at": "2026-11-22T10:00:10.004Z",
    "finished_at": "2026-11-22T10:00:10.060Z",
    "attempt": 1,
    "result": {"model": "tiny", "height": 64, "width": 64, "segments": [SEGMENT], "semantic": SEMANTIC},
}
IMAGE: Json = {"image": PNG, "prompt": "a car on the grass"}
IMAGE_QUEUED: Json = QUEUED | {
    "id": IMAGE_TAKING,
    "kind": "image",
    "request": {
        "prompt": "a car on the grass",
        "model": "tiny",
        "height": 64,
        "width": 64,
        "capture": {"half": "conditional", "mid_block": False, "self_attention": False},
        "upload": {"media_type": "image/png", "size": 95, "sha256": SHA256, "height": 64, "width": 64},
    },
}
IMAGE_SUCCEEDED: Json = IMAGE_QUEUED | {
    "state": "succeeded",
    "started_at": "2026-11-22T10:00:05.020Z",
    "finished_at": "2026-11-22T10:00:05.400Z",
    "attempt": 1,
    "progress": {"done": 9, "total": 9, "unit": "evaluation"},
    "result": {
        "model": "tiny",
        "height": 64,
        "width": 64,
        "num_inference_steps": 9,
        "guidance_scale": 1.0,
        "evaluations": 9,
        "timesteps": [900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0],
        "images": [{"index": 0, "seed": 0, "image": artifact(IMAGE_TAKING, "image-0.png"), "trace_bytes": 552960}],
    },
}
PROBE: Json = {"point": [30, 40], "words": ["car", "grass", "sky"]}
PROBE_QUEUED: Json = QUEUED | {
    "id": PROBING,
    "kind": "probe",
    "request": PROBE | {"job_id": GENERATION, "prompt": "a photograph of a car, a grass, a sky"},
}
PROBE_SUCCEEDED: Json = PROBE_QUEUED | {
    "state": "succeeded",
    "started_at": "2026-11-22T10:00:20.004Z",
    "finished_at": "2026-11-22T10:00:20.050Z",
    "attempt": 1,
    "result": {
        "model": "tiny",
        "prompt": "a photograph of a car, a grass, a sky",
        "words": [
            {"word": "car", "attention": 0.21, "share": 0.44, "gain": 0.07, "lift": 1.5},
            {"word": "sky", "attention": 0.12, "share": 0.25, "gain": 0.0, "lift": 1.0},
            {"word": "grass", "attention": 0.15, "share": 0.31, "gain": -0.05, "lift": 0.75},
        ],
    },
}
OPTIMIZE_QUEUED: Json = QUEUED | {"id": OPTIMIZATION, "kind": "optimize", "request": OPTIMIZE}
OPTIMIZE_SUCCEEDED: Json = OPTIMIZE_QUEUED | {
    "state": "succeeded",
    "started_at": "2026-11-22T10:01:00.010Z",
    "finished_at": "2026-11-22T10:01:04.500Z",
    "attempt": 1,
    "progress": {"done": 300, "total": 300, "unit": "epoch", "loss": 0.081},
    "result": {
        "token": "car@1",
        "model": "tiny",
        "width": 96,
        "classes": ["car"],
        "epochs": 300,
        "best_epoch": 291,
        "best_loss": 0.081,
        "ended": "epochs",
        "example_iou": 0.87,
        "losses": [0.69, 0.35, 0.12, 0.081],
        "curve": artifact(OPTIMIZATION, "curve.png", size=18_204),
        "curve_json": artifact(OPTIMIZATION, "losses.json", "application/json", 16_830),
    },
}
SUMMARY: Json = {key: value for key, value in SUCCEEDED.items() if key not in ("request", "result", "cancel_requested")}
JOBS: Json = {"jobs": [SUMMARY], "next": None}
MODEL: Json = {
    "name": "tiny",
    "source": "models/tiny",
    "family": "sd1",
    "text_width": 96,
    "max_tokens": 77,
    "default_height": 64,
    "default_width": 64,
    "size_multiple": 16,
    "default_guidance_scale": 3.0,
    "guidance_embedded": False,
    "default_scheduler": "DDIMScheduler",
    "schedulers": ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"],
    "blocks": [BLOCK],
    "default_self_attention": False,
    "word_defaults": {"method": "ovam", "refine": "none", "crf": False, "tau": 0.5, "normalize": "minmax"},
    "token_defaults": {"method": "ovam", "refine": "none", "crf": False, "tau": 0.5, "normalize": "minmax"},
    "default": True,
}
TOKEN: Json = {
    "id": f"{OPTIMIZATION}-1-0",
    "name": "car",
    "version": 1,
    "model": "tiny",
    "width": 96,
    "classes": ["car"],
    "origin": "optimize",
    "examples": [{"job_id": GENERATION, "image": 0}],
    "settings": {"optimizer": "adam", "learning_rate": 0.1, "loss": "bce", "epochs": 300, "patience": 60, "seed": 0},
    "epochs": 300,
    "best_epoch": 291,
    "best_loss": 0.081,
    "example_iou": 0.87,
    "job_id": OPTIMIZATION,
    "created_at": "2026-11-22T10:01:04.500Z",
}
TOKENS: Json = {"tokens": [TOKEN | {"versions": 1}], "next": None}
IMPORT: Json = {"name": "dog", "format": "npy", "classes": ["dog"], "file": NPY}
IMPORT_QUEUED: Json = QUEUED | {"id": IMPORTATION, "kind": "import", "request": IMPORT | {"model": "tiny"}}
IMPORT_SUCCEEDED: Json = IMPORT_QUEUED | {
    "state": "succeeded",
    "started_at": "2026-11-22T10:02:00.004Z",
    "finished_at": "2026-11-22T10:02:00.020Z",
    "attempt": 1,
    "result": {"model": "tiny", "width": 2, "tokens": ["dog@1"]},
}
EVENTS = """event: progress
data: {"id":"01ksy0k3vrm8f6h2p9t4w7x1ab","state":"running","progress":{"done":12,"total":30,"unit":"step"},"error":null}
id: 1795341600512-0

event: state
data: {"id":"01ksy0k3vrm8f6h2p9t4w7x1ab","state":"succeeded","progress":{"done":30,"total":30,"unit":"step"},"error":null}
id: 1795341603100-0

"""
