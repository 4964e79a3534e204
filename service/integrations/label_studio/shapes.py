"""What Label Studio sends: only what is used of it, since its versions differ in the rest."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue

from contracts.schema.fields import Schema

MOST_CONFIG = 2**17  # characters
MOST_TASKS = 256
Text = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value), Field(max_length=200)
]
ProjectId = Annotated[str, BeforeValidator(lambda value: str(value).partition(".")[0]), Field(pattern=r"^[A-Za-z0-9_-]{0,40}$")]
"""`12` of `12.1763805000`, whose second part is when the project was made."""
Config = Annotated[str, BeforeValidator(lambda value: value or ""), Field(max_length=MOST_CONFIG)]
Address = Annotated[str, BeforeValidator(lambda value: value or ""), Field(max_length=2000)]


class Theirs(Schema):
    """Base of them all: what is unknown is left out."""

    model_config = ConfigDict(extra="ignore")


class Region(Theirs):
    """One thing that was drawn."""

    from_name: str = ""
    type: str = ""
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: int = 0
    original_height: int = 0
    is_positive: bool | None = None
    """Of a smart tool's point or box: whether the object is there, or is not."""


class Task(Theirs):
    """What is annotated."""

    id: Text = ""
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Context(Theirs):
    """What a person has drawn with a smart tool."""

    result: list[Region] = Field([], max_length=1000)


class Params(Theirs):
    """Extras of a request for predictions."""

    login: str | None = None
    """By which the project's files are protected, with `password`."""
    password: str | None = None
    context: Context | None = None


class Setup(Theirs):
    """Label Studio connects a project."""

    project: ProjectId = ""
    config: Config = Field("", alias="schema")
    hostname: Address = ""
    access_token: Address = ""


class Predict(Theirs):
    """Label Studio asks for predictions."""

    project: ProjectId = ""
    label_config: Config = ""
    tasks: list[Task] = Field(max_length=MOST_TASKS)
    params: Params | None = None


class Project(Theirs):
    """A project, as webhooks tell of it."""

    id: ProjectId = ""
    label_config: Config = ""


class Annotation(Theirs):
    """What a person drew in a task; of a deleted one there is the id alone."""

    id: Annotated[Text, Field(min_length=1)]
    result: list[Region] = Field([], max_length=1000)
    was_cancelled: bool = False
    """Whether the person skipped the task."""


class Event(Theirs):
    """Label Studio tells what happened."""

    action: Annotated[str, Field(max_length=100)]
    project: Project = Project()
    task: Task = Task()
    annotation: Annotation | None = None
    annotations: list[Annotation] = Field([], max_length=10_000)
