"""The client's types, written from the gateway's own description: `python -m tests.client.schemas` after a contract has changed.

Answers become models that keep working when a later service says more: they ignore fields they do not know. Requests become typed
dicts: the service checks them, and its errors name the field. What an answer repeats of a request stays JSON, to be sent again.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from service.app import create_app
from service.settings import GatewaySettings

Json = dict[str, Any]
FOLDER: Final = Path(__file__).resolve().parents[2] / "ovam_client"
ANSWERS: Final = (
    "JobRecord",
    "JobList",
    "TokenList",
    "VersionList",
    "ModelList",
    "MethodList",
    "DatasetRecord",
    "DatasetList",
    "Problem",
    "Readiness",
)
OPTIONS: Final = {  # requests without what the client's functions take by position
    "GenerateRequest": ("GenerateOptions", {"prompt", "targets", "image", "mask"}),
    "ImageRequest": ("ImageOptions", {"image"}),
    "AttributeRequest": ("AttributeOptions", {"job_id", "targets", "image"}),
    "ProbeRequest": ("ProbeOptions", set[str]()),
    "OptimizeRequest": ("LearnOptions", {"name", "classes", "examples"}),
    "DatasetRequest": ("DatasetOptions", {"classes", "prompts", "jsonl"}),
    "ImportRequest": ("ImportOptions", {"file", "format"}),
}
REPEATED: Final = re.compile(r"^(\w+Job|\w+Target|Method|Settings)$")  # parts of answers that say what was asked for
SIMPLE: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
RULE: Final = '"""{}\n\nWritten by `python -m tests.client.schemas`; do not edit.\n"""\n\n'
ANSWERS_HEAD: Final = """from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Answer(BaseModel):
    \"\"\"Base of all answers. Fields that a later service adds are ignored.\"\"\"

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
"""
REQUESTS_HEAD: Final = """from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict
"""


def written() -> dict[Path, str]:
    """The text of both modules."""
    schemas = create_app(GatewaySettings()).openapi()["components"]["schemas"]
    answers = RULE.format("What the service answers.") + ANSWERS_HEAD + "\n".join(Answers(schemas).classes())
    requests = RULE.format("What may be asked for, beside what functions take by name.")
    requests += REQUESTS_HEAD + "\n".join(Requests(schemas).classes())
    return {FOLDER / "answers.py": formatted(answers), FOLDER / "requests.py": formatted(requests)}


def formatted(text: str) -> str:
    """The text as ruff leaves it: imports that are used, lines that fit."""
    for command in (["check", "--fix", "--quiet", "--select", "F401,I,E501,D", "--exit-zero"], ["format", "--quiet"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(FOLDER / "written.py"), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


class Module:
    """Classes for schemas and for what they refer to, each after what it needs."""

    lists = "list"

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        self.schemas = schemas
        self.done: set[str] = set()

    def needed(self, name: str) -> Iterator[str]:
        """The classes of a schema and of all that it refers to, those first."""
        if name in self.done:
            return
        self.done.add(name)
        for other in dict.fromkeys(self.references(self.schemas[name])):
            yield from self.needed(other)
        yield self.declared(name)

    def references(self, schema: object) -> Iterator[str]:
        """The names of the schemas that one refers to."""
        match schema:
            case {"$ref": reference}:
                yield reference.rpartition("/")[2]
            case dict():
                for value in schema.values():
                    yield from self.references(value)
            case list():
                for value in schema:
                    yield from self.references(value)

    def declared(self, name: str) -> str:
        """The class of a schema."""
        raise NotImplementedError

    def kind(self, schema: Json) -> str:  # noqa: PLR0911  # a case each
        """The annotation of a schema."""
        if "$ref" in schema:
            return str(schema["$ref"]).rpartition("/")[2]
        if several := schema.get("anyOf") or schema.get("oneOf"):
            return " | ".join(dict.fromkeys(each for kind in several for each in self.kind(kind).split(" | ")))
        if "const" in schema or "enum" in schema:
            return self.choice(schema)
        match schema.get("type"):
            case "array" if "prefixItems" in schema:
                return f"tuple[{', '.join(map(self.kind, schema['prefixItems']))}]"
            case "array" if (count := schema.get("maxItems")) == schema.get("minItems") and count is not None:
                return f"tuple[{', '.join([self.kind(schema['items'])] * count)}]"
            case "array":
                return f"{self.lists}[{self.kind(schema['items'])}]"
            case "object":
                return self.mapping(schema.get("additionalProperties"))
            case simple:
                return SIMPLE.get(simple or "", "Any")

    def choice(self, schema: Json) -> str:
        """The annotation of a closed set."""
        return f"Literal[{', '.join(map(repr, schema.get('enum') or [schema['const']]))}]"

    def mapping(self, values: object) -> str:
        """The annotation of an object that is no class."""
        return f"dict[str, {self.kind(values) if isinstance(values, dict) else 'Any'}]"


class Answers(Module):
    """Models of answers."""

    def classes(self) -> Iterator[str]:
        """Everything that answers need."""
        for name in ANSWERS:
            yield from self.needed(name)

    def references(self, schema: object) -> Iterator[str]:
        """The same, without what is kept as JSON."""
        return (name for name in super().references(schema) if not REPEATED.match(name) and name != "JsonValue")

    def declared(self, name: str) -> str:
        """A model, or an enumeration."""
        schema = self.schemas[name]
        if "enum" in schema:
            members = "\n".join(f"    {value.replace('-', '_').upper()} = {value!r}" for value in schema["enum"])
            return f'\n\nclass {name}(StrEnum):\n    """{schema["description"]}"""\n\n{members}\n'
        lines = [f"\n\nclass {name}(Answer):", docstring(schema)]
        for field, its in schema["properties"].items():
            required = field in schema.get("required", ())
            kind = self.kind(its)
            lines += [f"    {field}: {kind}{'' if required else f' = {self.default(its, kind)}'}", *docstring(its).splitlines()]
        return "\n".join(lines) + "\n"

    def default(self, schema: Json, kind: str) -> str:
        """What a field is that is not there."""
        if kind == "dict[str, Any]":
            return "{}"
        if "default" not in schema and kind not in self.done:
            return "None"
        return repr(schema["default"]) if "default" in schema else f"{kind}()"

    def kind(self, schema: Json) -> str:
        """The same, but times are times, and what a later service adds is no error."""
        if schema.get("format") == "date-time":
            return "datetime"
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if REPEATED.match(name):
            return "dict[str, Any]"
        if "discriminator" in schema:  # further kinds may come
            return f"{super().kind(schema)} | dict[str, Any]"
        return f"{name} | str" if name in ("State", "DatasetState", "Code") else super().kind(schema)

    def choice(self, schema: Json) -> str:
        """The kind of a result is what it is told by; every other set may grow."""
        known = super().choice(schema)
        return known if schema.get("title") == "Kind" and schema.get("enum") != KINDS else f"{known} | str"


KINDS: Final = ["generate", "image", "attribute", "probe", "optimize", "import"]  # of jobs: may grow, too


class Requests(Module):
    """Typed dicts of requests."""

    lists = "Sequence"

    def classes(self) -> Iterator[str]:
        """The options of all requests and what they need; then what functions take by name."""
        for request, (name, left_out) in OPTIONS.items():
            schema = self.schemas[request]
            fields = {field: its for field, its in schema["properties"].items() if field not in left_out}
            for other in dict.fromkeys(self.references(fields)):
                yield from self.needed(other)
            yield self.typed(name, schema["description"], fields, set(schema.get("required", ())))
        for name in ("DatasetClass", "EmbeddingTarget", "TokenTarget", "WordsTarget"):
            yield from self.needed(name)
        yield "\n\nTarget = EmbeddingTarget | TokenTarget | WordsTarget\n"

    def declared(self, name: str) -> str:
        """A typed dict."""
        schema = self.schemas[name]
        return self.typed(name, schema["description"], schema["properties"], set(schema.get("required", ())))

    def typed(self, name: str, description: str, fields: Mapping[str, Json], required: set[str]) -> str:
        """A typed dict of fields."""
        lines = [f"\n\nclass {name}(TypedDict, total=False):", docstring({"description": description})]
        for field, its in fields.items():
            kind = self.kind(its)
            lines += [f"    {field}: {f'Required[{kind}]' if field in required else kind}", *docstring(its).splitlines()]
        return "\n".join(lines) + "\n"

    def mapping(self, values: object) -> str:
        """The annotation of an object that is no class."""
        return super().mapping(values).replace("dict[", "Mapping[", 1)


def docstring(schema: Json) -> str:
    """The description of a schema as a docstring, indented; nothing if it has none."""
    text = str(schema.get("description", "")).replace("\n", "\n    ")
    return f'    """{text}"""' if text else ""


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
