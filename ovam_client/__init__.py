"""A client of the OVAM service: generate images, ask where anything is in them, learn tokens. It needs no torch.

>>> import ovam_client
>>> with ovam_client.Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     job = client.generate("a photograph of a red car on the grass", seed=1).wait(progress=print)
...     job.image().save("car.png")
...     car, grass = job.attribute("automobile", "grass")
...     print(car.score, car.mask.shape)
"""

from ovam_client import answers, requests
from ovam_client.aio import AsyncClient, AsyncJob, AsyncSegment
from ovam_client.aio_datasets import AsyncDataset
from ovam_client.answers import Code, Progress
from ovam_client.drivers import AddressError
from ovam_client.errors import (
    AccessError,
    BusyError,
    ConflictError,
    DatasetError,
    InvalidRequestError,
    JobCanceledError,
    JobError,
    JobExpiredError,
    JobFailedError,
    NotFoundError,
    OvamServiceError,
    RefusedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)
from ovam_client.flows import Patience
from ovam_client.inputs import Example
from ovam_client.pictures import picture_of
from ovam_client.sync import Client, Job, Segment
from ovam_client.sync_datasets import Dataset
from ovam_client.version import __version__
from ovam_client.views import NotFinishedError

__all__ = [  # noqa: RUF022 - by topic
    # clients
    "Client",
    "AsyncClient",
    "Patience",
    # jobs and what they give
    "Job",
    "AsyncJob",
    "Segment",
    "AsyncSegment",
    "Dataset",
    "AsyncDataset",
    "Progress",
    "picture_of",
    "Example",
    "answers",
    "requests",
    # errors
    "OvamServiceError",
    "AddressError",
    "UnreachableError",
    "UnexpectedAnswerError",
    "RefusedError",
    "InvalidRequestError",
    "AccessError",
    "NotFoundError",
    "ConflictError",
    "BusyError",
    "UnavailableError",
    "JobError",
    "JobFailedError",
    "JobCanceledError",
    "JobExpiredError",
    "NotFinishedError",
    "DatasetError",
    "WaitTimeoutError",
    "Code",
    # the rest
    "__version__",
]
