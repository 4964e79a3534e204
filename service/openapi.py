"""The API's own description: an example on every operation, and every problem that it may answer."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fastapi import Body, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from contracts.schema.errors import Code
from service.access import PUBLIC, needed
from service.problems import ANSWERS, MEDIA_TYPE, Problem, problem

Responses = dict[int | str, dict[str, Any]]
TEMPLATE = "#/components/schemas/{model}"
ALWAYS = (Code.INVALID_REQUEST, Code.HOST_NOT_ALLOWED, Code.REDIS_UNAVAILABLE, Code.INTERNAL)
ANY_BODY = (Code.ORIGIN_NOT_ALLOWED, Code.BODY_TOO_LARGE, Code.BODY_TOO_SLOW)  # of a change, also of one without a body
BODY = (*ANY_BODY, Code.INVALID_JSON, Code.UNSUPPORTED_MEDIA_TYPE, Code.GATEWAY_BUSY)
SUBMISSION = (
    *BODY,
    Code.IDEMPOTENCY_KEY_REUSED,
    Code.IDEMPOTENCY_KEY_IN_FLIGHT,
    Code.NO_WORKER,
    Code.UNKNOWN_MODEL,
    Code.JOB_TOO_LARGE,
    Code.INVALID_ARGUMENT,  # of a header
    Code.QUEUE_FULL,
    Code.UNKNOWN_JOB,  # deleted while its client waits
)
DRAWING = (  # of a request that says what is to be drawn
    Code.PROMPT_TOO_LONG,
    Code.SIZE_NOT_DIVISIBLE,
    Code.SIZE_TOO_LARGE,
    Code.TOO_MANY_STEPS,
    Code.TOO_MANY_IMAGES,
)
PICTURES = (  # of a request that brings an image, perhaps with a mask
    Code.IMAGE_UNREADABLE,
    Code.IMAGE_TOO_LARGE,
    Code.IMAGE_UNSUPPORTED,
    Code.MASK_NOT_AN_IMAGE,
    Code.MASK_UNREADABLE,
    Code.MASK_EMPTY,
    Code.MASK_FULL,
)
SOURCE_IMAGE = (  # of a request that names an image of a generate job
    Code.UNKNOWN_JOB,
    Code.JOB_EXPIRED,
    Code.WRONG_JOB_KIND,
    Code.JOB_NOT_FINISHED,
    Code.JOB_NOT_SUCCESSFUL,
    Code.IMAGE_INDEX,
    Code.UNKNOWN_ADAPTER,
)
KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key of `ovam keys create`, with the scope `generate`, `read` or `admin` that the operation names.",
}
TAGS = [
    {
        "name": "jobs",
        "description": "Submit jobs for images, attribution and tokens; follow, list, cancel and delete them.",
    },
    {"name": "tokens", "description": "Learned tokens."},
    {"name": "datasets", "description": "Images with masks by the thousand: prompts in, filters, exports for other tools."},
    {"name": "webhooks", "description": "What webhooks are signed with; a submission's headers say who is told what."},
    {"name": "models", "description": "What the workers serve."},
    {"name": "service", "description": "Is it alive, and what do its codes mean?"},
]


def problems(*codes: Code) -> Responses:
    """The problems of an operation, beside those that any operation may have."""
    by_status: defaultdict[int, list[Code]] = defaultdict(list)
    for code in dict.fromkeys((*codes, *ALWAYS)):
        by_status[ANSWERS[code].status].append(code)
    return {status: problem_response(found) for status, found in sorted(by_status.items())}


def problem_response(codes: list[Code]) -> dict[str, Any]:
    """The codes that share a status, with an example of each."""
    examples = {
        code.value: {"value": problem(code, ANSWERS[code].title).model_dump(mode="json", exclude_none=True)} for code in codes
    }
    content = {"schema": {"$ref": TEMPLATE.format(model="Problem")}, "examples": examples}
    return {"description": ", ".join(f"`{code}`" for code in codes), "content": {MEDIA_TYPE: content}}


def example(value: object, description: str, **more: object) -> dict[str, Any]:
    """A successful answer in JSON."""
    return {"description": description, "content": {"application/json": {"example": value}}, **more}


def body(value: object, **others: object) -> Any:  # noqa: ANN401  # what FastAPI's Body is
    """A body in JSON, with an example, and others by name."""
    return Body(openapi_examples={name: {"value": each} for name, each in {"example": value, **others}.items()})


def describe(app: FastAPI, routes: Sequence[BaseRoute], *, keys: bool) -> None:
    """Let the app describe its `routes`, the schema of its problems, and its `keys` if it needs them: once, on first use."""

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
            )
            _, models = models_json_schema([(Problem, "serialization")], ref_template=TEMPLATE)
            document["components"]["schemas"] |= models["$defs"]
            simplify_schema(document["components"]["schemas"])
            for route in routes:
                if isinstance(route, APIRoute) and route.include_in_schema:
                    complete_answers(document["paths"][route.path_format], route)
            if keys:
                require_keys(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = description


def require_keys(document: dict[str, Any]) -> None:
    """Say of every operation which scope it needs, and the problems that follow from keys and their limits."""
    document["components"]["securitySchemes"] = {"key": KEY_SCHEME}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if PUBLIC.fullmatch(path):
                continue
            operation["security"] = [{"key": [needed(method.upper(), path)]}]
            codes = [Code.UNAUTHENTICATED, Code.SCOPE_MISSING, Code.RATE_LIMITED]
            if any(Code.QUEUE_FULL in examples for examples in examples_of(operation)):
                codes += [Code.QUEUE_LIMIT, Code.DEVICE_LIMIT, Code.STORAGE_LIMIT]
            for status, answer in problems(*codes).items():
                add_problems(operation["responses"].setdefault(str(status), answer), answer)


def examples_of(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The examples of an operation's problems, by code, for each status."""
    return [answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}) for answer in operation["responses"].values()]


def add_problems(answer: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the problems of one answer to those of another of the same status."""
    examples, added = (each["content"][MEDIA_TYPE]["examples"] for each in (answer, more))
    examples |= added
    answer["description"] = ", ".join(f"`{code}`" for code in examples)


def complete_answers(operations: dict[str, Any], route: APIRoute) -> None:
    """Give an operation's answers their whole examples, and remove what OpenAPI 3.1 does not define.

    FastAPI drops every null of an example, required or not; and it describes events as OpenAPI 3.2 does.
    """
    for method in route.methods or ():
        for status, answer in operations[method.lower()]["responses"].items():
            declared = route.responses.get(int(status)) or {}
            for kind, content in answer.get("content", {}).items():
                content.pop("itemSchema", None)
                whole = declared.get("content", {}).get(kind, {})
                content |= {name: whole[name] for name in ("example", "examples") if name in whole}


def simplify_schema(schema: Any) -> None:  # noqa: ANN401 - any part of a schema
    """Rewrite what client generators misread in pydantic's schemas.

    Arrays of a fixed length get `items` beside or instead of `prefixItems`; a single string in a union with numbers becomes
    an enumeration.
    """
    parts = [*schema.values()] if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    for part in parts:
        simplify_schema(part)
    if not isinstance(schema, dict):
        return
    if "prefixItems" in schema:
        first, *others = schema["prefixItems"]
        if all(other == first for other in others):
            schema["items"] = schema.pop("prefixItems")[0]
        else:
            schema["items"] = {"type": first["type"]}
    for member in schema.get("anyOf", []):
        if "const" in member:
            member["enum"] = [member.pop("const")]
