import base64
import re

import pytest

from contracts import masks
from contracts.attribution import AttributeRequest
from contracts.errors import Code
from contracts.generation import GenerateRequest, ImageUpload
from contracts.jobs import JobRecord
from contracts.models import ModelCard
from contracts.optimization import OptimizeRequest
from contracts.probing import ProbeOptions
from contracts.tokens import ImportRequest, TokenCard
from service import examples
from service.app import create_app
from service.routes.jobs import JobList
from service.routes.tokens import TokenList
from service.settings import GatewaySettings
from tests.service.serving import Json

API = create_app(GatewaySettings()).openapi()
OPERATIONS = [(path, method, operation) for path, item in API["paths"].items() for method, operation in item.items()]
NAMES = [operation["operationId"] for _, _, operation in OPERATIONS]


def test_operations_have_short_names_of_their_own() -> None:
    assert len(set(NAMES)) == len(NAMES) == 24
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


def test_the_examples_are_what_the_service_speaks() -> None:
    GenerateRequest.model_validate(examples.GENERATE)
    AttributeRequest.model_validate(examples.ATTRIBUTE)
    ImageUpload.model_validate(examples.IMAGE)
    ProbeOptions.model_validate(examples.PROBE)
    for record in (examples.IMAGE_QUEUED, examples.IMAGE_SUCCEEDED, examples.PROBE_QUEUED, examples.PROBE_SUCCEEDED):
        JobRecord.model_validate(record)
    request = OptimizeRequest.model_validate(examples.OPTIMIZE)
    records = (examples.QUEUED, examples.SUCCEEDED, examples.CANCELED, examples.ATTRIBUTE_QUEUED, examples.ATTRIBUTE_SUCCEEDED)
    learned = (examples.OPTIMIZE_QUEUED, examples.OPTIMIZE_SUCCEEDED, examples.IMPORT_QUEUED, examples.IMPORT_SUCCEEDED)
    for record in (*records, *learned):
        JobRecord.model_validate(record)
    JobList.model_validate(examples.JOBS)
    ModelCard.model_validate(examples.MODEL)
    TokenCard.model_validate(examples.TOKEN)
    masks.check(request, [(64, 64)])
    TokenList.model_validate(examples.TOKENS)
    assert base64.b64decode(ImportRequest.model_validate(examples.IMPORT).file).startswith(b"\x93NUMPY")
