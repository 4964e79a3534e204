"""The client for programs that await. `sync.py` is the same for programs that do not, and is written from this file."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovam_client import answers, flows, pictures
from ovam_client.aio_datasets import AsyncDatasets
from ovam_client.drivers import Address, AsyncDriver
from ovam_client.flows import Call, Patience
from ovam_client.inputs import Example, JobLike, StartLike, TargetLike, attribution, escaped, file_path, generation, id_of, lesson
from ovam_client.pictures import MaskLike, PictureLike, file_of
from ovam_client.requests import (
    AttributeOptions,
    GenerateOptions,
    ImageOptions,
    ImportOptions,
    LearnOptions,
    ProbeOptions,
)
from ovam_client.version import __version__
from ovam_client.views import JobView, SegmentView

SHORT = 10  # seconds that the answer of a question may take before the job's events are followed
R = TypeVar("R")
Progress = Callable[[answers.Progress], object]


class AsyncClient:
    """A client of an OVAM service.

    `url` is its address, by default that of OVAM_URL, else http://127.0.0.1:8000. `key` is an API key, by default that of
    OVAM_API_KEY. `timeout` (seconds) is for one answer, `patience` for how long requests are repeated that may succeed later.
    Raises AddressError for an address or a key that cannot be one; every method raises OvamServiceErrors.
    """

    def __init__(
        self, url: str | None = None, *, key: str | None = None, timeout: float = 30.0, patience: Patience | None = None
    ) -> None:
        self.address = Address.of(url, key, timeout)
        self.patience = patience or Patience()
        self.driver = AsyncDriver(self.address, __version__)
        self.jobs = AsyncJobs(self)
        self.images = AsyncImages(self)
        self.tokens = AsyncTokens(self)
        self.datasets = AsyncDatasets(self.driver, self.patience)

    async def __aenter__(self) -> Self:
        """Leave the block to close the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.driver.aclose()

    async def generate(
        self,
        prompt: str,
        *,
        targets: Sequence[TargetLike] = (),
        image: StartLike | None = None,
        mask: MaskLike | None = None,
        **options: Unpack[GenerateOptions],
    ) -> "AsyncJob[answers.ImagesResult]":
        """Generate images and keep their attention, so that you can ask later where things are in them.

        With `targets` (words, learned tokens, or targets with options) each image has `segments`, and `job.wait(progress=...)`
        sees where they are while it is drawn: in `progress.preview`, whose pictures `ovam_client.picture_of` opens.
        An `image` to start from is a picture or a job; inside a `mask` it is painted anew. `control` and `image_prompt` take an
        `image` likewise, and `adapters` names those of the model's card: `[{"name": "watercolour", "scale": 0.8}]`.
        """
        return await self.submit("generate", generation(prompt, targets, options, image, mask))

    async def attribute(
        self, job: JobLike, *targets: TargetLike, image: int = 0, **options: Unpack[AttributeOptions]
    ) -> "AsyncJob[answers.AttributeResult]":
        """Ask where targets are in an image of a job. `job.attribute(...)` does the same and waits for the segments."""
        return await self.submit("attribute", attribution(job, targets, image, options), wait=SHORT)

    async def probe(self, job: JobLike, **options: Unpack[ProbeOptions]) -> "AsyncJob[answers.ProbeResult]":
        """Ask to which words a `point` or a `box` of an image attends."""
        return await self.submit(f"jobs/{escaped(id_of(job))}/probe", options, wait=SHORT)

    async def learn(
        self, name: str, *examples: Example, classes: Sequence[str] | None = None, **options: Unpack[LearnOptions]
    ) -> "AsyncJob[answers.OptimizeResult]":
        """Learn a token from annotated images. Its classes are by default those of the masks, else its name alone."""
        return await self.submit("optimize", lesson(name, examples, classes, options))

    async def models(self) -> list[answers.ModelCard]:
        """The models that are served, with what a request for each must keep to."""
        return (await self.driver.run(flows.parsed(answers.ModelList, Call("GET", "/v1/models"), self.patience))).models

    async def methods(self) -> list[answers.MethodCard]:
        """The published methods with all their settings."""
        return (await self.driver.run(flows.parsed(answers.MethodList, Call("GET", "/v1/methods"), self.patience))).methods

    async def submit(self, operation: str, body: Mapping[str, Any], *, wait: int = 0, key: str | None = None) -> "AsyncJob[Any]":
        """File a job of any kind: `operation` is the path after `/v1/`, `body` the request's JSON.

        Waits up to `wait` seconds for its end. `key` is an idempotency key: the same key and body give the same job.
        """
        return AsyncJob(self, await self.driver.run(flows.submitted(operation, body, self.patience, wait=wait, key=key)))

    async def download(self, file: answers.Artifact) -> bytes:
        """The bytes of a file."""
        return (await self.driver.run(flows.answered(Call("GET", file_path(file.url)), self.patience))).content

    async def picture(self, file: answers.Artifact) -> Image.Image:
        """A file that is a picture."""
        return pictures.opened(await self.download(file))

    async def array(self, file: answers.Artifact) -> NDArray[np.float32]:
        """A file that is an array (`.npy`)."""
        return pictures.array_of(await self.download(file))

    def __repr__(self) -> str:
        """The address."""
        return f"{type(self).__name__}({self.address.url!r})"


class AsyncJob(JobView[R], Generic[R]):
    """A job: what the service said of it last, and what can be asked of it. Methods that ask bring it up to date."""

    def __init__(self, client: AsyncClient, record: answers.JobRecord) -> None:
        self.client = client
        self.record = record

    async def refresh(self) -> Self:
        """Ask how the job stands."""
        self.record = await self.client.driver.run(flows.fetched(self.id, self.client.patience))
        return self

    async def wait(self, progress: Progress | None = None, *, timeout: float | None = None, cancel: bool = True) -> Self:  # noqa: ASYNC109
        """Wait for the job's end, and return it. `progress` is called with every step or epoch that is reported.

        When the wait is interrupted (Ctrl-C, a task that is cancelled), the job is canceled, unless `cancel` is false. Raises
        JobFailedError, JobCanceledError or JobExpiredError, and WaitTimeoutError after `timeout` seconds.
        """
        flow = flows.waited(self.record, self.client.patience, progress, timeout, cancel=cancel)
        self.record = await self.client.driver.run(flow)
        return self

    async def cancel(self) -> Self:
        """Stop the job: at once while it waits, at its next step while it runs. One that learns keeps its best token so far."""
        self.record = await self.client.driver.run(flows.canceled(self.id, self.client.patience))
        return self

    async def delete(self) -> None:
        """Delete the job with its files."""
        await self.client.driver.run(flows.answered(Call("DELETE", f"/v1/jobs/{self.id}"), self.client.patience))

    async def attribute(self, *targets: TargetLike, image: int = 0, **options: Unpack[AttributeOptions]) -> "list[AsyncSegment]":
        """Find targets in an image of this job, once it has ended: words, learned tokens, or targets with options.

        `client.attribute` returns the job instead, whose result has the semantic map, too.
        """
        await self.wait()
        job = await self.client.attribute(self, *targets, image=image, **options)
        return (await job.wait()).segments

    async def probe(self, **options: Unpack[ProbeOptions]) -> list[answers.RankedWord]:
        """Rank words by how much a `point` or a `box` of an image of this job attends to them, once it has ended."""
        await self.wait()
        return (await (await self.client.probe(self, **options)).wait()).result.words

    async def image(self, index: int = 0) -> Image.Image:
        """An image of a job that has images. Raises IndexError."""
        result: Any = self.result
        return await self.client.picture(result.images[index].image)

    @property
    def segments(self) -> "list[AsyncSegment]":
        """The segments of an attribute job, or of a generate job's first image, in the order of the targets."""
        return self.segments_of(0)

    def segments_of(self, image: int) -> "list[AsyncSegment]":
        """The segments of an image of a generate job with targets. Raises IndexError."""
        result: Any = self.result
        found = result.segments if isinstance(result, answers.AttributeResult) else result.images[image].segments
        return [AsyncSegment(self.client, each) for each in found]


class AsyncSegment(SegmentView):
    """Where one target is: its mask came with the answer, heatmap and overlay are downloaded when they are asked for."""

    def __init__(self, client: AsyncClient, data: answers.Segment) -> None:
        self.client = client
        self.data = data

    async def heatmap(self) -> NDArray[np.float32]:
        """The mean attention to the target, (height, width)."""
        return await self.client.array(self.data.heatmap_npy)

    async def refined(self) -> NDArray[np.float32]:
        """What the threshold cuts, (height, width): the heatmap, or what refinement and stretching made of it."""
        return await self.client.array(self.data.refined_npy or self.data.heatmap_npy)

    async def overlay(self) -> Image.Image:
        """A picture of the image with heatmap and mask."""
        return await self.client.picture(self.data.overlay)

    async def difference(self) -> NDArray[np.float32]:
        """Its heat less that in the image it was asked `against`, (height, width), signed. Raises ValueError without one."""
        if self.data.difference is None:
            raise ValueError("the segment was not asked for against another image")
        return await self.client.array(self.data.difference.npy)

    async def without(self) -> Image.Image:
        """The image drawn again without its word (`causal`). Raises ValueError where that was not asked for."""
        if self.data.causal is None:
            raise ValueError("the image was not drawn again: ask with causal={}")
        return await self.client.picture(self.data.causal.image)


class AsyncImages:
    """Real images: `client.images`."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def upload(self, picture: PictureLike, **options: Unpack[ImageOptions]) -> AsyncJob[answers.ImagesResult]:
        """Let the model look at a real image, given as a path, bytes, a PIL image or an array, and keep its attention."""
        return await self.client.submit("images", {"image": file_of(picture), **options})


class AsyncJobs:
    """Jobs: `client.jobs`."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def get(self, job_id: str) -> AsyncJob[Any]:
        """A job by its id."""
        return AsyncJob(self.client, await self.client.driver.run(flows.fetched(job_id, self.client.patience)))

    async def list(self, *, kind: str | None = None, state: str | None = None) -> AsyncIterator[answers.JobSummary]:
        """All jobs, newest first, page by page as they are read."""
        wanted = {name: value for name, value in (("kind", kind), ("state", state)) if value is not None}
        cursor: dict[str, str] = {}
        while True:
            call = Call("GET", "/v1/jobs", params={"limit": 100, **wanted, **cursor})
            page = await self.client.driver.run(flows.parsed(answers.JobList, call, self.client.patience))
            for summary in page.jobs:
                yield summary
            if page.next is None:
                return
            cursor = {"cursor": page.next}


class AsyncTokens:
    """Learned tokens: `client.tokens`. A reference is `name@version`, or `name` for the newest version."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def list(self) -> AsyncIterator[answers.TokenListing]:
        """All tokens by name, the newest version of each."""
        cursor: dict[str, str] = {}
        while True:
            call = Call("GET", "/v1/tokens", params={"limit": 100, **cursor})
            page = await self.client.driver.run(flows.parsed(answers.TokenList, call, self.client.patience))
            for token in page.tokens:
                yield token
            if page.next is None:
                return
            cursor = {"cursor": page.next}

    async def get(self, reference: str) -> answers.TokenCard:
        """A token: its model, where it was learned, and how well."""
        return await self._card(Call("GET", f"/v1/tokens/{escaped(reference)}"))

    async def versions(self, name: str) -> Sequence[answers.TokenCard]:
        """The versions of a name, newest first."""
        call = Call("GET", f"/v1/tokens/{escaped(name)}/versions")
        return (await self.client.driver.run(flows.parsed(answers.VersionList, call, self.client.patience))).versions

    async def rename(self, name: str, to: str) -> answers.TokenCard:
        """Give a token another name; its versions keep their numbers."""
        return await self._card(Call("PATCH", f"/v1/tokens/{escaped(name)}", json={"name": to}, repeatable=False))

    async def delete(self, reference: str) -> None:
        """Delete a version, or all versions of a bare name."""
        await self.client.driver.run(flows.answered(Call("DELETE", f"/v1/tokens/{escaped(reference)}"), self.client.patience))

    async def download(self, reference: str, format: str = "safetensors") -> bytes:  # noqa: A002  # the API's name
        """A token's file: `safetensors`, `textual-inversion` or `npy`."""
        call = Call("GET", f"/v1/tokens/{escaped(reference)}/file", params={"format": format})
        return (await self.client.driver.run(flows.answered(call, self.client.patience))).content

    async def upload(
        self,
        file: str | bytes,
        format: str = "safetensors",  # noqa: A002  # the API's name
        **options: Unpack[ImportOptions],
    ) -> AsyncJob[answers.ImportResult]:
        """Import tokens from a file, given as its path or its bytes."""
        return await self.client.submit("tokens", {"file": file_of(file), "format": format, **options})

    async def _card(self, call: Call) -> answers.TokenCard:
        return await self.client.driver.run(flows.parsed(answers.TokenCard, call, self.client.patience))
