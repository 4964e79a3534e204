"""Jobs of every kind, as small as they come."""

import base64
import io
from typing import Any

import httpx2
import numpy as np
from PIL import Image

Json = dict[str, Any]
Request = tuple[str, Json]
"""The path to post to, and the body."""

WORDS = ("cat", "dog", "hat", "tree", "car")
TEXT_WIDTH = 32  # of the tests' tiny pipeline
SIDE = 64  # pixels of its images
FAST = {"threshold": {"kind": "share", "tau": 0.5, "normalize": "max"}, "refine": None, "crf": None}


def generate(number: int, steps: int = 3) -> Request:
    """An image, different for each number."""
    return "/v1/generate", {"prompt": f"a photograph of a {word_of(number)}", "seed": number, "num_inference_steps": steps}


def image(number: int) -> Request:
    """A real image."""
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    return "/v1/images", {"image": png(pixels), "prompt": f"a {word_of(number)}", "timesteps": [900, 500, 100], "seed": number}


def attribute(number: int, source: str) -> Request:
    """A question about an image."""
    return "/v1/attribute", {"job_id": source, "targets": [{"word": word_of(number)}], "settings": FAST}


def probe(number: int, source: str) -> Request:
    """A place in an image."""
    return f"/v1/jobs/{source}/probe", {"box": [0, 0, 8 + number % 8, 8], "words": [*WORDS]}


def optimize(number: int, source: str, epochs: int = 5) -> Request:
    """A token that is learned from an image."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, : SIDE // 2] = 255
    examples = [{"job_id": source, "image": 0, "mask": png(mask)}]
    return "/v1/optimize", {"name": f"learned-{number % 7}", "classes": ["cat"], "examples": examples, "epochs": epochs}


def imports(number: int) -> Request:
    """A token from a file."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(number).normal(size=(2, TEXT_WIDTH)).astype(np.float32))
    data = base64.b64encode(file.getvalue()).decode()
    return "/v1/tokens", {"file": data, "format": "npy", "name": f"imported-{number % 7}"}


def word_of(number: int) -> str:
    """A word that the tiny pipeline knows."""
    return WORDS[number % len(WORDS)]


def png(pixels: np.ndarray) -> str:
    """Pixels as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


async def finished(client: httpx2.AsyncClient, request: Request, wait: int = 60) -> Json:
    """Submit a job and wait for it; its record. HTTPStatusError if it is refused, RuntimeError if it does not succeed."""
    path, body = request
    answer = await client.post(path, json=body, headers={"Prefer": f"wait={wait}"}, timeout=wait + 10)
    record = answer.raise_for_status().json()
    if record["state"] != "succeeded":
        raise RuntimeError(f"{path}: {record['state']}, {record['error']}")
    return record


def artifacts(value: object) -> dict[str, Json]:
    """The artifacts that a record names, by URL."""
    if isinstance(value, dict) and {"url", "sha256"} <= value.keys():
        return {value["url"]: value}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {url: found for part in parts for url, found in artifacts(part).items()}
