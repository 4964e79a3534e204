"""The page about the API shows requests that are valid, and names every operation and every code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from contracts.schema.attribute import AttributeRequest
from contracts.schema.images import GenerateRequest, ImageRequest
from contracts.schema.methods import Settings
from contracts.schema.optimize import OptimizeRequest
from contracts.schema.probe import ProbeRequest
from contracts.schema.targets import Target
from contracts.schema.tokens import ImportRequest
from service.app import create_app
from service.problems import ANSWERS
from service.settings import GatewaySettings

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
SCHEMAS = {
    "GenerateRequest": GenerateRequest,
    "ImageRequest": ImageRequest,
    "AttributeRequest": AttributeRequest,
    "Target": Target,
    "Settings": Settings,
    "ProbeRequest": ProbeRequest,
    "OptimizeRequest": OptimizeRequest,
    "ImportRequest": ImportRequest,
}
BLOCKS = re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)


def values(text: str) -> Iterator[Any]:
    """The values in JSON that a block shows, one after the other."""
    text = text.replace("01k...", "0" * 26).strip()
    while text:
        value, end = json.JSONDecoder().raw_decode(text)
        yield value
        text = text[end:].strip()


@pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_what_is_shown_is_what_the_schema_takes(name: str, text: str) -> None:
    for value in values(text):
        TypeAdapter(SCHEMAS[name]).validate_python(value)


def test_every_kind_of_request_is_shown() -> None:
    assert {name for name, _ in BLOCKS} == {*SCHEMAS}


def test_every_operation_is_named_and_no_other() -> None:
    api = create_app(GatewaySettings()).openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, item in api.items() for method in item}
    named = {operation.replace("{id}", "{job_id}") for operation in re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`?]*)", PAGE)}
    assert named - {"GET /problems/{code}"} == there - {"GET /problems/{code}"}


def test_the_codes_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\d{3}) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(code.value, str(answer.status), answer.title) for code, answer in ANSWERS.items()]
