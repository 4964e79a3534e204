"""A client of the service: submit a job, follow its events, fetch its artifacts."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Record = dict[str, Any]  # a job record, as JSON


class JobFailed(Exception):  # noqa: N818  # what happened, in the words of its record
    """A job that did not succeed, or a request that was refused."""


@dataclass(frozen=True)
class Service:
    """The service at the other end of an HTTP client."""

    http: httpx2.Client

    def run(self, operation: str, body: dict[str, Any], on_progress: Callable[[Record], None] = lambda _: None) -> Record:
        """Submit a job (`generate`, `attribute`, `optimize`), follow it to its end and return its record; JobFailed otherwise."""
        answer = self.http.post(f"/v1/{operation}", json=body)
        if answer.is_error:
            problem = answer.json()
            raise JobFailed(f"{operation} was refused: {problem['detail']} {problem.get('errors', '')}")
        location = answer.headers["location"]
        for event in self.events(location):
            if event["state"] == "running" and event.get("progress"):
                on_progress(event["progress"])
        record = self.http.get(location).raise_for_status().json()
        if record["state"] != "succeeded":
            raise JobFailed(f"{operation} job {record['id']} {record['state']}: {(record['error'] or {}).get('detail')}")
        return record

    def events(self, location: str) -> Iterator[Record]:
        """The data of a job's server-sent events, until the job is final."""
        with self.http.stream("GET", f"{location}/events", timeout=None) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def delete(self, job_id: str) -> None:
        """Delete a job with all its files."""
        self.http.delete(f"/v1/jobs/{job_id}").raise_for_status()

    def bytes(self, artifact: Record) -> bytes:
        """An artifact's content."""
        return self.http.get(artifact["url"]).raise_for_status().content

    def picture(self, artifact: Record) -> NDArray[np.uint8]:
        """A PNG artifact as array, (height, width) or (height, width, 3)."""
        with Image.open(io.BytesIO(self.bytes(artifact))) as image:
            return np.array(image)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture, (height, width) or (height, width, 3), as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def base64_of(data: bytes) -> str:
    """Bytes as the API takes them."""
    return base64.b64encode(data).decode()


def png_base64(mask: NDArray[np.bool_]) -> str:
    """A mask as the API takes it."""
    return base64_of(as_png(mask.astype(np.uint8) * 255))


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 for two empty ones."""
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union
