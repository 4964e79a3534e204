"""The API's own description is valid, and what it shows is what the service speaks."""

import base64
import re
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import validate
from pydantic import TypeAdapter

from contracts.rules import annotations
from contracts.schema.errors import Code
from contracts.schema.jobs import JobRecord
from contracts.schema.optimize import OptimizeRequest
from contracts.schema.tokens import ImportRequest
from service import examples
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.serving import Json

API = create_app(GatewaySettings()).openapi()
OPERATIONS = [(path, method, operation) for path, item in API["paths"].items() for method, operation in item.items()]
NAMES = [operation["operationId"] for _, _, operation in OPERATIONS]
RECORDS = {name: value for name, value in vars(examples).items() if name.endswith(("QUEUED", "SUCCEEDED", "CANCELED"))}


def contents() -> dict[str, tuple[Json, Json]]:
    """What the description says of every body in JSON: its schema, and its examples."""
    found = {}
    for _, _, operation in OPERATIONS:
        bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for place, body in bodies.items():
            for kind, content in body.get("content", {}).items():
                if kind.endswith("json"):
                    several = {name: each["value"] for name, each in content.get("examples", {}).items()}
                    single = {"example": content["example"]} if "example" in content else {}
                    found[f"{operation['operationId']} {place}"] = content["schema"], single | several
    return found


CONTENTS = contents()


def test_the_description_is_a_valid_document() -> None:
    assert API["openapi"].startswith("3.1")
    validate(API)


def test_no_two_paths_differ_in_the_names_of_their_parameters_alone() -> None:
    bare = [re.sub(r"{\w+}", "{}", path) for path in API["paths"]]
    assert len(set(bare)) == len(bare)


def test_no_union_of_objects_has_a_default_since_generators_lose_those() -> None:
    def unions(part: Any) -> list[Json]:
        found = [each for value in (part.values() if isinstance(part, dict) else part) for each in unions(value)] if isinstance(
            part, dict | list
        ) else []  # fmt: skip
        return [*found, part] if isinstance(part, dict) and ("anyOf" in part or "oneOf" in part) else found

    with_default = [each for each in unions(API["components"]["schemas"]) if isinstance(each.get("default"), dict | list)]
    assert with_default == []


def parts(of: Any) -> list[Json]:
    """Every object in a document, the outermost last."""
    inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else ()
    return [*(part for value in inner for part in parts(value)), *([of] if isinstance(of, dict) else ())]


def test_arrays_of_a_fixed_length_and_single_words_are_said_as_generators_understand_them() -> None:
    schemas = parts(API["components"]["schemas"])
    assert [part for part in schemas if part.get("type") == "array" and "items" not in part] == []
    assert [part for part in schemas if any("const" in member for member in part.get("anyOf", ()))] == []


def test_operations_have_short_names_of_their_own() -> None:
    assert len(set(NAMES)) == len(NAMES) == 37
    assert all(re.fullmatch(r"[a-z_]+", name) for name in NAMES)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=NAMES)
@pytest.mark.usefixtures("path", "method")
def test_every_operation_has_a_summary_a_tag_and_examples(operation: Json) -> None:
    assert operation["summary"]
    assert operation["tags"]
    assert operation["description"]
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            binary = content.get("schema", {}).get("format") == "binary"
            assert binary or "example" in content or content.get("examples"), (status, kind)
    if "requestBody" in operation:
        assert operation["requestBody"]["content"]["application/json"]["examples"]


@pytest.mark.parametrize(("schema", "shown"), CONTENTS.values(), ids=CONTENTS)
def test_every_example_is_what_its_schema_says(schema: Json, shown: Json) -> None:
    validator = jsonschema_rs.validator_for({**schema, "components": API["components"]})
    assert shown
    for name, example in shown.items():
        assert [error.message for error in validator.iter_errors(example)] == [], name


@pytest.mark.parametrize(("schema", "shown"), CONTENTS.values(), ids=CONTENTS)
def test_an_answers_example_has_every_field_nulls_included(schema: Json, shown: Json) -> None:
    """A client's class that reads answers may take none of them for optional."""
    for example in shown.values():
        if schema == {"$ref": "#/components/schemas/JobRecord"}:
            assert example == TypeAdapter(JobRecord).validate_python(example).model_dump(mode="json")
        if "next" in API["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", ()):
            assert "next" in example


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=NAMES)
@pytest.mark.usefixtures("method")
def test_every_refusal_is_a_documented_problem_with_its_codes(path: str, operation: Json) -> None:
    for status, answer in operation["responses"].items():
        if int(status) < 400 or (path, status) == ("/readyz", "503"):
            continue
        content = answer["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert {each["value"]["status"] for each in content["examples"].values()} == {int(status)}
        assert all(Code(code) for code in content["examples"])
    assert {"422", "500", "503"} <= set(operation["responses"])


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_the_records_that_are_shown_are_records(record: Json) -> None:
    assert JobRecord.model_validate(record).model_dump(mode="json") == record


def test_the_files_that_are_shown_can_be_read() -> None:
    annotations.check(OptimizeRequest.model_validate(examples.OPTIMIZE), [(128, 128)])
    assert base64.b64decode(ImportRequest.model_validate(examples.IMPORT).file).startswith(b"\x93NUMPY")
