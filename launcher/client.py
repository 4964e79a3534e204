"""A small client of the service: submit a job, follow its events, fetch its artifacts."""

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


class JobFailedError(Exception):
    """A job did not succeed, or a request was rejected; the message says why."""


@dataclass(frozen=True)
class Service:
    """The service at the other end of an HTTP client."""

    http: httpx2.Client

    def run(self, operation: str, body: dict[str, Any], on_progress: Callable[[Record], None] = lambda _: None) -> Record:
        """Submit a job (`generate`, `attribute`, `optimize`, ...), wait for its end and return its record.

        Raises JobFailedError if the request is rejected or the job does not succeed.
        """
        answer = self.http.post(f"/v1/{operation}", json=body)
        if answer.is_error:
            problem = answer.json()
            raise JobFailedError(f"{operation} was rejected: {problem['detail']} {problem.get('errors', '')}")
        location = answer.headers["location"]
        for event in self.events(location):
            if event["state"] == "running" and event.get("progress"):
                on_progress(event["progress"])
        record = self.http.get(location).raise_for_status().json()
        if record["state"] != "succeeded":
            detail = (record["error"] or {}).get("detail")
            raise JobFailedError(f"{operation} job {record['id']} {record['state']}: {detail}")
        return record

    def events(self, location: str) -> Iterator[Record]:
        """Yield the data of a job's server-sent events until the job is final."""
        with self.http.stream("GET", f"{location}/events", timeout=None) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def bytes(self, artifact: Record) -> bytes:
        """Download an artifact."""
        return self.http.get(artifact["url"]).raise_for_status().content

    def picture(self, artifact: Record) -> NDArray[np.uint8]:
        """Download a PNG artifact as an array, (height, width) or (height, width, 3)."""
        with Image.open(io.BytesIO(self.bytes(artifact))) as image:
            return np.array(image)

    def mask(self, segment: Record) -> NDArray[np.bool_]:
        """Download the mask of a segment, (height, width)."""
        return self.picture(segment["mask"]) > 127  # noqa: PLR2004  # masks are black and white


def png_base64(mask: NDArray[np.bool_]) -> str:
    """Encode a mask as the API takes it: a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
