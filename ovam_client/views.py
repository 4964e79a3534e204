"""What is known of jobs and segments without asking again."""

from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ovam_client import answers
from ovam_client.errors import OvamServiceError, failure_of
from ovam_client.events import FINAL
from ovam_client.pictures import decoded

R = TypeVar("R")


class NotFinishedError(OvamServiceError):
    """A job's result was asked for before it ended: call `wait()` first."""

    code = "job-not-finished"


class JobView(Generic[R]):
    """A job as it was when it was last asked for."""

    record: answers.JobRecord

    @property
    def id(self) -> str:
        """By which the service knows it, and this client finds it again: `client.jobs.get(id)`."""
        return self.record.id

    @property
    def kind(self) -> str:
        """`generate`, `image`, `attribute`, `probe`, `optimize` or `import`."""
        return str(self.record.kind)

    @property
    def state(self) -> str:
        """`queued`, `running`, `succeeded`, `failed`, `canceled` or `expired`."""
        return str(self.record.state)

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINAL

    @property
    def progress(self) -> answers.Progress | None:
        """How far it was."""
        return self.record.progress

    @property
    def result(self) -> R:
        """What the job gave. Raises NotFinishedError, or the JobError of a job that gave nothing."""
        if self.record.result is not None:
            return cast("R", self.record.result)
        if self.final:
            raise failure_of(self.record)
        raise NotFinishedError(f"job {self.id} is {self.state}; call wait() first")

    def __repr__(self) -> str:
        """Kind, id and state."""
        return f"<{self.kind} job {self.id}: {self.state}>"


class SegmentView:
    """Where one target is."""

    data: answers.Segment
    """Everything that the service says of it."""

    @property
    def label(self) -> str:
        """The target's name."""
        return self.data.label

    @property
    def score(self) -> float:
        """How sure the mask is, 0..1."""
        return self.data.score

    @property
    def confidence(self) -> float:
        """How sure the mask is, 0..1, by how far halves of the attention agree with it.

        It is the IoU with the true mask that is to be expected if `data.confidence.calibrated`; the score if `confidence` was
        not asked for, or a single attention map is all there is.
        """
        return self.score if self.data.confidence is None else self.data.confidence.value

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return self.data.area

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """x, y, width, height; zeros if the mask is empty."""
        return self.data.bbox

    @property
    def leakage(self) -> float | None:
        """How far its heat leaks to the targets that it competes with; None if there are none."""
        return self.data.leakage

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as used: sent again, they give the same mask."""
        return self.data.settings

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask, (height, width); it came with the answer."""
        return decoded(self.data.rle)

    def __repr__(self) -> str:
        """Label, score and area."""
        return f"<segment {self.label!r}: score {self.score:.2f}, {self.area} pixels>"
