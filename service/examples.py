"""The examples of the OpenAPI document: one story, from a generated image to a learned token.

Python rather than JSON, because each record is derived from the one before it. A test holds them to the schemas.
"""

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
    "iVBORw0KGgoAAAANSUhEUgAAAIAAAACAAQAAAADrRVxmAAAA10lEQVR42u2STQ6CMBCFXwtRFiaydMkRvAF4M47WI3gEjsCSGMJz0Zm2"
    "/tRE47JvA/Pl8ZhpBygqKvpa42O5J2f/VvnHCjTGRcORJBcAgAUAnAFgFw2GJEmXRpISawHg5PkhgA4xrwKASaKM89Ro1iA2q6CTolbQ"
    "CmgUNAJaBXX6vcrGNp7+kMIhDJlzfAYVgHgwxvlpQ+rlp1CbhjLnmLTYco5Zi1XAomARsCqYBWwKJgFUEBrq/e1vofUptpHZj5vn19he"
    "HyJet1AHJzm+3+TcrhcV/Ut3UiJOTWiSuKAAAAAASUVORK5CYII="
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
GENERATE_WATCHED: Json = GENERATE | {
    "targets": [{"word": "car"}, {"word": "grass"}],
    "every": 5,
    "gate": {"target": "car", "min_area": 0.05, "max_area": 0.95, "at": 0.5, "on_fail": "next-seed", "seeds": 4},
}
FROM_NOISE: Json = {
    "image": None,
    "mask": None,
    "strength": None,
    "adapters": [],
    "control": None,
    "image_prompt": None,
    "emphasis": [],
    "clip_skip": None,
}
GENERATE_STEERED: Json = GENERATE | {
    "adapters": [{"name": "watercolour", "scale": 0.8}],
    "emphasis": [{"word": "red", "weight": 1.4}],
    "clip_skip": 1,
}
GENERATE_FROM: Json = GENERATE | {"image": {"job_id": IMAGE_TAKING, "image": 0}, "strength": 0.6}
UNWATCHED: Json = {
    "targets": [],
    "softmax": "each",
    "distractors": [],
    "maps": [],
    "semantic": None,
    "instances": None,
    "confidence": False,
    "calibrations": [],
    "every": 5,
    "gate": None,
}
CAPTURE: Json = {
    "branch": "conditional",
    "blocks": "all",
    "mid_block": False,
    "evaluations": "all",
    "heads": "all",
    "keep": "replay",
    "precision": None,
    "self_attention": True,
}
GENERATE_JOB: Json = GENERATE | {
    "kind": "generate",
    "negative_prompt": "",
    "model": "world",
    "guidance_scale": 3.0,
    "height": 128,
    "width": 128,
    "scheduler": "DDIMScheduler",
    "capture": CAPTURE,
    **FROM_NOISE,
    **UNWATCHED,
}
BLOCK: Json = {"name": "up_blocks.1.attentions.0.transformer_blocks.0.attn2", "grid": [8, 8], "heads": 6}
ATTRIBUTE: Json = {
    "job_id": GENERATION,
    "image": 0,
    "targets": [
        {"word": "car"},
        {
            "label": "wheel",
            "prompt": "the wheel of a car",
            "word": "wheel",
            "settings": {"threshold": {"kind": "share", "tau": 0.7, "normalize": "max"}},
        },
        {"label": "learned car", "token": "car@1"},
    ],
    "settings": {"evaluations": {"start": 10}},
    "semantic": {"least_gap": 0.05, "labels": [7, 8, 9]},
}
ATTRIBUTE_TOGETHER: Json = {
    "job_id": GENERATION,
    "targets": [{"word": "car"}, {"word": "grass"}],
    "softmax": "together",
    "distractors": [{"word": "sky"}, {"prompt": "a photograph of a paved road", "word": "paved road"}],
}
SECRET: Json = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}
OPTIMIZE: Json = {
    "name": "car",
    "classes": ["car"],
    "examples": [{"job_id": GENERATION, "image": 0, "mask": PNG}],
    "epochs": 300,
}
AN_IMAGE: Json = {"index": 0, "segments": [], "semantic": None}
QUEUED: Json = {
    "tenant": "",
    "id": GENERATION,
    "kind": "generate",
    "state": "queued",
    "priority": "normal",
    "deadline": None,
    "webhook": None,
    "request": GENERATE_JOB,
    "estimate": {"memory_bytes": 190_000_000, "kept_bytes": 14_000_000, "work": 0.98304, "seconds": 1.6},
    "created_at": "2026-11-22T10:00:00Z",
    "estimated_start": "2026-11-22T10:00:04Z",
    "started_at": None,
    "finished_at": None,
    "expires_at": "2026-11-23T10:00:00Z",
    "attempt": 0,
    "deaths": 0,
    "tries": 0,
    "retry_at": None,
    "attempts_before": 0,
    "claimed": False,
    "cancel_requested": False,
    "request_id": "5f2b8c1d9e3a7046",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "progress": None,
    "result": None,
    "stored_result": None,
    "error": None,
}
SUCCEEDED: Json = QUEUED | {
    "state": "succeeded",
    "estimated_start": None,
    "started_at": "2026-11-22T10:00:00.020000Z",
    "finished_at": "2026-11-22T10:00:03.100000Z",
    "attempt": 1,
    "claimed": True,
    "progress": {"done": 30, "total": 30, "unit": "step", "loss": None, "preview": None},
    "result": {
        "kind": "generate",
        "model": "world",
        "weights": "dd70696a4e8e20d5",
        "height": 128,
        "width": 128,
        "num_inference_steps": 30,
        "guidance_scale": 3.0,
        "scheduler": "DDIMScheduler",
        "evaluations": 30,
        "timesteps": [float(step) for step in range(958, 0, -33)],
        "blocks": [BLOCK],
        "keep": "replay",
        "self_attention": True,
        "images": [{**AN_IMAGE, "seed": 7, "image": artifact(GENERATION, "image-0.png"), "trace_bytes": 1843200}],
        "adapters": [],
        "rejected": [],
    },
}
CANCELED: Json = QUEUED | {"state": "canceled", "estimated_start": None, "finished_at": "2026-11-22T10:00:01Z"}
METHOD: Json = {
    "blocks": "all",
    "evaluations": {"start": 10, "stop": None, "step": None},
    "heads": "all",
    "attention": None,
    "padding": "none",
    "reduction": "mean",
    "refine": {"steps": 1, "kind": "affinity"},
    "threshold": {"tau": 0.36, "normalize": "minmax", "kind": "share"},
    "crf": None,
    "minimum_area": 0,
    "fill_holes": False,
    "network": None,
    "aggregation": "equal",
}
CAR: Json = {"settings": None, "label": None, "prompt": "a photograph of a car", "word": "car", "occurrence": None}
ATTRIBUTE_JOB: Json = {
    "kind": "attribute",
    "job_id": GENERATION,
    "image": 0,
    "model": "world",
    "targets": [{"label": "car", "target": CAR, "method": "ovam", "settings": METHOD}],
    "softmax": "each",
    "distractors": [],
    "maps": [],
    "semantic": {"least_gap": 0.05, "labels": [7]},
    "instances": None,
    "confidence": True,
    "calibrations": [{"agreement": [0.6, 0.9, 0.96], "iou": [0.21, 0.74, 0.88]}],
    "appraisal": None,
    "against": None,
    "against_image": 0,
    "causal": None,
}
ATTRIBUTE_QUEUED: Json = QUEUED | {"id": ATTRIBUTION, "kind": "attribute", "priority": "interactive", "request": ATTRIBUTE_JOB}
SEGMENT: Json = {
    "label": "car",
    "target": CAR,
    "method": "ovam",
    "settings": METHOD,
    "score": 0.71,
    "leakage": None,
    "confidence": {"value": 0.83, "agreement": 0.94, "calibrated": True},
    "difference": None,
    "causal": None,
    "area": 864,
    "bbox": [40, 52, 36, 24],
    "rle": {"size": [128, 128], "counts": "dQ5h0X3000000000000000000000000000000000000000000000000000000000000000000000\\^6"},
    "polygons": [[40.0, 52.0, 76.0, 52.0, 76.0, 76.0, 40.0, 76.0]],
    "heatmap": artifact(ATTRIBUTION, "heatmap-0.png"),
    "heatmap_npy": artifact(ATTRIBUTION, "heatmap-0.npy", "application/octet-stream", 65664),
    "refined_npy": artifact(ATTRIBUTION, "refined-0.npy", "application/octet-stream", 65664),
    "mask": artifact(ATTRIBUTION, "mask-0.png", size=214),
    "overlay": artifact(ATTRIBUTION, "overlay-0.png"),
    "maps": [],
    "instances": None,
}
SEMANTIC: Json = {
    "map": artifact(ATTRIBUTION, "semantic.png", size=803),
    "labels": {"0": "background", "7": "car", "255": "ambiguous"},
    "areas": {"0": 15520, "7": 800, "255": 64},
}
ATTRIBUTE_SUCCEEDED: Json = ATTRIBUTE_QUEUED | {
    "estimated_start": None,
    "state": "succeeded",
    "started_at": "2026-11-22T10:00:10.004000Z",
    "finished_at": "2026-11-22T10:00:10.060000Z",
    "attempt": 1,
    "claimed": True,
    "result": {
        "kind": "attribute",
        "model": "world",
        "height": 128,
        "width": 128,
        "segments": [SEGMENT],
        "semantic": SEMANTIC,
        "appraisal": None,
        "causal": None,
    },
}
IMAGE: Json = {"image": PNG, "prompt": "a car on the grass"}
IMAGE_QUEUED: Json = QUEUED | {
    "id": IMAGE_TAKING,
    "kind": "image",
    "request": {
        "kind": "image",
        "prompt": "a car on the grass",
        "model": "world",
        "height": 128,
        "width": 128,
        "seed": 0,
        "inversion": "none",
        "timesteps": [900, 800, 700, 600, 500, 400, 300, 200, 100],
        "num_inference_steps": None,
        "capture": CAPTURE,
        "upload": {"media_type": "image/png", "size": 272, "sha256": SHA256, "height": 128, "width": 128},
    },
}
IMAGE_SUCCEEDED: Json = IMAGE_QUEUED | {
    "estimated_start": None,
    "state": "succeeded",
    "started_at": "2026-11-22T10:00:05.020000Z",
    "finished_at": "2026-11-22T10:00:05.400000Z",
    "attempt": 1,
    "claimed": True,
    "progress": {"done": 9, "total": 9, "unit": "evaluation", "loss": None, "preview": None},
    "result": {
        "kind": "image",
        "model": "world",
        "weights": "dd70696a4e8e20d5",
        "height": 128,
        "width": 128,
        "num_inference_steps": 9,
        "guidance_scale": 1.0,
        "scheduler": "DDIMScheduler",
        "evaluations": 9,
        "timesteps": [900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0],
        "blocks": [BLOCK],
        "keep": "replay",
        "self_attention": True,
        "images": [{**AN_IMAGE, "seed": 0, "image": artifact(IMAGE_TAKING, "image-0.png"), "trace_bytes": 552960}],
        "adapters": [],
        "rejected": [],
    },
}
PROBE: Json = {"point": [30, 40], "words": ["car", "grass", "sky"]}
PROBE_QUEUED: Json = QUEUED | {
    "id": PROBING,
    "kind": "probe",
    "priority": "interactive",
    "request": {
        "kind": "probe",
        "job_id": GENERATION,
        "image": 0,
        "model": "world",
        "box": [30, 40, 1, 1],
        "words": ["car", "grass", "sky"],
        "prompt": "a photograph of a car, a grass, a sky",
        "padding": "none",
        "blocks": "all",
        "evaluations": "all",
        "heads": "all",
    },
}
PROBE_SUCCEEDED: Json = PROBE_QUEUED | {
    "estimated_start": None,
    "state": "succeeded",
    "started_at": "2026-11-22T10:00:20.004000Z",
    "finished_at": "2026-11-22T10:00:20.050000Z",
    "attempt": 1,
    "claimed": True,
    "result": {
        "kind": "probe",
        "model": "world",
        "prompt": "a photograph of a car, a grass, a sky",
        "words": [
            {"word": "car", "attention": 0.21, "fraction": 0.44, "gain": 0.07, "lift": 1.5},
            {"word": "sky", "attention": 0.12, "fraction": 0.25, "gain": 0.0, "lift": 1.0},
            {"word": "grass", "attention": 0.15, "fraction": 0.31, "gain": -0.05, "lift": 0.75},
        ],
    },
}
OPTIMIZE_JOB: Json = OPTIMIZE | {
    "kind": "optimize",
    "model": "world",
    "initial": [{"word": "car"}],
    "noise": 0.0,
    "seed": 0,
    "optimizer": "adam",
    "learning_rate": 0.1,
    "schedule": {"every": 120, "factor": 0.7, "kind": "step"},
    "loss": "bce",
    "patience": 60,
    "blocks": "all",
    "evaluations": "all",
}
OPTIMIZE_QUEUED: Json = QUEUED | {"id": OPTIMIZATION, "kind": "optimize", "request": OPTIMIZE_JOB}
OPTIMIZE_SUCCEEDED: Json = OPTIMIZE_QUEUED | {
    "estimated_start": None,
    "state": "succeeded",
    "started_at": "2026-11-22T10:01:00.010000Z",
    "finished_at": "2026-11-22T10:01:04.500000Z",
    "attempt": 1,
    "claimed": True,
    "progress": {"done": 300, "total": 300, "unit": "epoch", "loss": 0.081, "preview": None},
    "result": {
        "kind": "optimize",
        "token": "car@1",
        "model": "world",
        "width": 192,
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
SUMMARY: Json = {
    key: value
    for key, value in SUCCEEDED.items()
    if key not in ("request", "result", "cancel_requested", "claimed", "request_id", "traceparent")
}
JOBS: Json = {"jobs": [SUMMARY], "next": None}
MODEL: Json = {
    "name": "world",
    "source": "models/world",
    "family": "sd1",
    "text_width": 192,
    "max_tokens": 40,
    "default_height": 128,
    "default_width": 128,
    "size_multiple": 32,
    "default_guidance_scale": 3.0,
    "guidance_embedded": False,
    "default_scheduler": "DDIMScheduler",
    "schedulers": ["DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"],
    "blocks": [BLOCK],
    "default_keep": "replay",
    "default_self_attention": True,
    "word_defaults": {
        "method": "ovam",
        "settings": {
            "refine": {"steps": 1, "kind": "affinity"},
            "threshold": {"tau": 0.36, "normalize": "minmax", "kind": "share"},
            "crf": None,
        },
    },
    "token_defaults": {
        "method": "ovam",
        "settings": {
            "refine": {"steps": 1, "alpha": 0.85, "sign": 1, "kind": "both"},
            "threshold": {"tau": 0.46, "normalize": "minmax", "kind": "share"},
            "crf": None,
        },
    },
    "can": ["image", "mask", "negative_prompt", "emphasis", "queries", "confidence", "causal", "clip_skip", "lora"],
    "cannot": {},
    "adapters": [
        {"name": "watercolour", "kind": "lora", "weights": "3f0c2a9be41d7758", "size": 3227464, "token": None, "vectors": None}
    ],
    "other_adapters": {},
    "max_clip_skip": 3,
    "default": True,
}
TOKEN: Json = {
    "id": f"{OPTIMIZATION}-1-0",
    "name": "car",
    "version": 1,
    "model": "world",
    "width": 192,
    "family": "unet",
    "classes": ["car"],
    "origin": "optimize",
    "examples": [{"job_id": GENERATION, "image": 0}],
    "settings": {"optimizer": "adam", "learning_rate": 0.1, "loss": "bce", "epochs": 300, "patience": 60, "seed": 0},
    "epochs": 300,
    "best_epoch": 291,
    "best_loss": 0.081,
    "example_iou": 0.87,
    "job_id": OPTIMIZATION,
    "created_at": "2026-11-22T10:01:04.500000Z",
}
TOKENS: Json = {"tokens": [TOKEN | {"versions": 1}], "next": None}
IMPORT: Json = {"name": "dog", "format": "npy", "classes": ["dog"], "file": NPY}
IMPORT_QUEUED: Json = QUEUED | {
    "id": IMPORTATION,
    "kind": "import",
    "priority": "interactive",
    "request": IMPORT | {"kind": "import", "model": "world"},
}
IMPORT_SUCCEEDED: Json = IMPORT_QUEUED | {
    "estimated_start": None,
    "state": "succeeded",
    "started_at": "2026-11-22T10:02:00.004000Z",
    "finished_at": "2026-11-22T10:02:00.020000Z",
    "attempt": 1,
    "claimed": True,
    "result": {"kind": "import", "model": "world", "width": 2, "tokens": ["dog@1"]},
}
EVENTS = """event: progress
data: {"id":"01ksy0k3vrm8f6h2p9t4w7x1ab","state":"running","progress":{"done":12,"total":30,"unit":"step"},"error":null}
id: 1795341600512-0

event: progress
data: {"id":"01ksy0k3vrm8f6h2p9t4w7x1ab","state":"running","progress":{"done":15,"total":30,"unit":"step","preview":{\
"image":0,"seed":7,"evaluation":15,"evaluations":30,"picture":"data:image/jpeg;base64,/9j/4AAQ...",\
"masks":[{"label":"car","area":0.19,"mask":"data:image/png;base64,iVBORw0K..."}]}},"error":null}
id: 1795341601411-0

event: state
data: {"id":"01ksy0k3vrm8f6h2p9t4w7x1ab","state":"succeeded","progress":{"done":30,"total":30,"unit":"step"},"error":null}
id: 1795341603100-0

"""
DATASET_ID = "01ksy0r7m4d6f8h0k2n4q6s8va"
DATASET_REQUEST: Json = {
    "name": "cars and dogs",
    "classes": [{"name": "car", "label": 7}, {"name": "dog", "target": {"token": "dog@1"}, "label": 12}],
    "templates": ["a photograph of a {class}", "a {class} on the grass"],
    "images_per_prompt": 50,
    "filters": {"area": {"kind": "share", "least": 0.05, "most": 0.95}, "duplicates": "exact"},
}
DATASET_JSONL: Json = {
    "classes": [{"name": "car"}, {"name": "dog"}],
    "jsonl": '{"custom_id": "street-1", "prompt": "a car in front of a house"}\n'
    '{"custom_id": "street-2", "prompt": "a puppy runs after a taxi", "classes": ["car", "dog"], "seed": 7}\n',
}
DATASET: Json = {
    "id": DATASET_ID,
    "tenant": "",
    "name": "cars and dogs",
    "state": "queued",
    "counts": {"entries": 200, "done": 0, "accepted": 0, "failed": 0, "rejected": {}},
    "estimate": {"seconds": 370.0, "kept_bytes": 6_553_600},
    "kept_bytes": 0,
    "waits": None,
    "error": None,
    "created_at": "2026-11-22T11:00:00Z",
    "started_at": None,
    "finished_at": None,
    "request": {
        "name": "cars and dogs",
        "images_per_prompt": 50,
        "seed": 0,
        "generation": {
            "model": "world",
            "negative_prompt": "",
            "num_inference_steps": 30,
            "guidance_scale": 3.0,
            "height": 128,
            "width": 128,
            "scheduler": "DDIMScheduler",
        },
        "attribution": {"method": None, "settings": None, "softmax": "each", "distractors": []},
        "concurrency": None,
        "classes": [
            {"name": "car", "target": CAR | {"label": "car"}, "label": 7},
            {"name": "dog", "target": {"settings": None, "label": "dog", "token": "dog@1", "class_name": "dog"}, "label": 12},
        ],
        "filters": {
            "area": {"kind": "share", "least": 0.05, "most": 0.95},
            "clip": None,
            "single_colour": False,
            "duplicates": "exact",
        },
        "prompts": 4,
        "method": "ovam",
        "settings": METHOD,
    },
}
DATASET_DONE: Json = DATASET | {
    "state": "succeeded",
    "counts": {"entries": 200, "done": 200, "accepted": 181, "failed": 1, "rejected": {"area": 17, "duplicate": 1}},
    "estimate": {"seconds": 0.0, "kept_bytes": 6_553_600},
    "kept_bytes": 4_210_688,
    "started_at": "2026-11-22T11:00:00.400000Z",
    "finished_at": "2026-11-22T11:06:02.100000Z",
}
DATASETS: Json = {"datasets": [{key: value for key, value in DATASET_DONE.items() if key != "request"}], "next": None}
DATASET_EVENTS = f"""event: progress
data: {{"id":"{DATASET_ID}","state":"running","counts":{{"entries":200,"done":3,"accepted":3,"failed":0}}}}
id: 1795344002512-0

event: progress
data: {{"id":"{DATASET_ID}","state":"succeeded","counts":{{"entries":200,"done":200,"accepted":199,"failed":1}}}}
id: 1795344362100-0

"""
