"""The client for programs that do not await.

Written from `aio_datasets.py` by `python -m tests.client.sync`; do not edit.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, Unpack

from ovam_client import answers, flows
from ovam_client.datasets import DatasetView, ExportOptions, PromptLike, dataset_of, exported, exporting, unpacked
from ovam_client.drivers import Driver
from ovam_client.flows import Call, Patience
from ovam_client.inputs import escaped
from ovam_client.requests import DatasetClass, DatasetOptions

Progress = Callable[[answers.Counts], object]


class Datasets:
    """Data sets of generated images with masks: `client.datasets`."""

    def __init__(self, driver: Driver, patience: Patience) -> None:
        self.driver = driver
        self.patience = patience

    def create(
        self,
        classes: Sequence[str | DatasetClass],
        prompts: Sequence[PromptLike] | str | None = None,
        *,
        key: str | None = None,
        **options: Unpack[DatasetOptions],
    ) -> "Dataset":
        """Have images of prompts generated, and classes found in them.

        A class is a name, which is looked for as a word, or has a `target` and a `label`. Prompts are texts, or objects with
        `prompt`, `custom_id`, `classes` and `seed`; a string is JSON lines of such objects; without prompts there are
        `templates`. `key` is an idempotency key. What is wrong is an InvalidRequestError, whose `errors` name the lines.
        """
        return self._of(dataset_of(classes, prompts, options, key))

    def get(self, dataset_id: str) -> "Dataset":
        """A data set by its id."""
        return self._of(Call("GET", f"/v1/datasets/{escaped(dataset_id)}"))

    def list(self) -> Iterator[answers.DatasetSummary]:
        """All data sets, newest first, page by page as they are read."""
        cursor: dict[str, str] = {}
        while True:
            call = Call("GET", "/v1/datasets", params={"limit": 100, **cursor})
            page = self.driver.run(flows.parsed(answers.DatasetList, call, self.patience))
            yield from page.datasets
            if page.next is None:
                return
            cursor = {"cursor": page.next}

    def _of(self, call: Call) -> "Dataset":
        record = self.driver.run(flows.parsed(answers.DatasetRecord, call, self.patience))
        return Dataset(self.driver, self.patience, record)


class Dataset(DatasetView):
    """A data set: what the service said of it last, and what can be asked of it. Methods that ask bring it up to date."""

    def __init__(self, driver: Driver, patience: Patience, record: answers.DatasetRecord) -> None:
        self.driver = driver
        self.patience = patience
        self.record = record

    def refresh(self) -> Self:
        """Ask how it stands."""
        return self._asked(Call("GET", f"/v1/datasets/{self.id}"))

    def wait(self, progress: Progress | None = None, *, timeout: float | None = None) -> Self:
        """Wait for its end, and return it. `progress` is called with the counts about every second.

        When the wait is interrupted (Ctrl-C), the data set goes on. Raises DatasetError for one that failed or was canceled, and
        WaitTimeoutError after `timeout` seconds.
        """
        flow = flows.followed_dataset(self.record, self.patience, progress, timeout)
        self.record = self.driver.run(flow)
        return self

    def pause(self) -> Self:
        """Begin no further image; those under way are finished."""
        return self._asked(Call("POST", f"/v1/datasets/{self.id}/pause"))

    def resume(self) -> Self:
        """Go on, after a pause or a failure."""
        return self._asked(Call("POST", f"/v1/datasets/{self.id}/resume"))

    def cancel(self) -> Self:
        """End it for good; what there is can be exported."""
        return self._asked(Call("POST", f"/v1/datasets/{self.id}/cancel"))

    def delete(self) -> None:
        """Delete it with its images and masks."""
        self.driver.run(flows.answered(Call("DELETE", f"/v1/datasets/{self.id}"), self.patience))

    def export(
        self,
        path: str | Path,
        format: str = "coco",  # noqa: A002  # the API's name
        **options: Unpack[ExportOptions],
    ) -> Path:
        """Write the accepted images with their masks: into a new folder, or as a file if the path ends with `.tar`.

        Formats: `coco`, `voc`, `yolo`, `labelme`, `webdataset`, `huggingface`.
        """
        target = Path(path)
        with exporting(target) as (file, tar):
            fetch = flows.Fetch(f"/v1/datasets/{self.id}/export", exported(format, options), file)
            self.driver.run(flows.fetched_whole(fetch, self.patience))
            unpacked(tar, target)
        return target

    def _asked(self, call: Call) -> Self:
        self.record = self.driver.run(flows.parsed(answers.DatasetRecord, call, self.patience))
        return self
