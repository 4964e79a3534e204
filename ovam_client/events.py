"""Server-sent events of a job, line by line."""

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from ovam_client.answers import Counts, Failure, Progress

FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


class Event(BaseModel):
    """Something that happened to a job, or to a data set."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    state: str
    progress: Progress | None = None
    counts: Counts | None = None
    """Of a data set."""
    error: Failure | None = None

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.state in FINAL


@dataclass
class Events:
    """What was heard of a stream, over all its connections."""

    last: str = ""
    """The id of the last event that was heard whole: a new connection goes on after it."""
    data: list[str] = field(default_factory=list)
    pending: str = ""

    def begin(self) -> None:
        """A new connection: what was half heard is forgotten."""
        self.data.clear()
        self.pending = ""

    def feed(self, line: str) -> Event | None:
        """Take a line without its end; return an event if the line ends one. Comments and unknown fields are ignored."""
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self.data.append(value.removeprefix(" "))
            elif name == "id":
                self.pending = value.removeprefix(" ")
            return None
        text, self.last = "\n".join(self.data), self.pending or self.last
        self.data.clear()
        return Event.model_validate_json(text) if text else None
