"""From an error to HTTP: the only place that knows both. Every error is an RFC 9457 problem with a code."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from obstore.exceptions import BaseError as StoreError
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from contracts.schema.errors import Code, FieldError, ServiceError
from contracts.schema.estimates import Estimate
from service.artifacts import UnsatisfiableError
from service.integrations import x_errors
from service.invalid import field_error, printable, shown
from service.refusals import InvalidLinesError, JobTooLargeError, RefusalError

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MOST_ERRORS = 20  # fields that one problem names
OPENAI = ("/v1/images/generations", "/v1/images/edits")
RETRY_AFTER = 5  # seconds, when Redis or the store is away
log = structlog.get_logger("ovam.gateway")


@dataclass(frozen=True)
class Answer:
    """How a code is answered."""

    status: int
    title: str


ANSWERS: Mapping[Code, Answer] = MappingProxyType(
    {
        Code.UNAUTHENTICATED: Answer(401, "There is no valid API key"),
        Code.SCOPE_MISSING: Answer(403, "The API key does not allow this"),
        Code.RATE_LIMITED: Answer(429, "The API key's requests come too fast"),
        Code.QUEUE_LIMIT: Answer(429, "Too many jobs of the API key's tenant are waiting"),
        Code.DEVICE_LIMIT: Answer(429, "The device time of the API key's tenant is used for this day"),
        Code.STORAGE_LIMIT: Answer(403, "The jobs of the API key's tenant keep too many bytes"),
        Code.INVALID_JSON: Answer(400, "The body is not JSON"),
        Code.INVALID_REQUEST: Answer(422, "The request is not valid"),
        Code.INVALID_ARGUMENT: Answer(422, "A value is not allowed"),
        Code.BODY_TOO_LARGE: Answer(413, "The body is too large"),
        Code.BODY_TOO_SLOW: Answer(408, "The body did not come in time"),
        Code.NOT_FOUND: Answer(404, "There is nothing at this address"),
        Code.METHOD_NOT_ALLOWED: Answer(405, "This address does not have this method"),
        Code.HOST_NOT_ALLOWED: Answer(421, "The gateway does not answer for this host"),
        Code.ORIGIN_NOT_ALLOWED: Answer(403, "A page of another site may not change anything"),
        Code.UNSUPPORTED_MEDIA_TYPE: Answer(415, "The body is not declared as JSON, or is declared as compressed"),
        Code.RANGE_NOT_SATISFIABLE: Answer(416, "The range starts beyond the end of the artifact"),
        Code.IDEMPOTENCY_KEY_REUSED: Answer(422, "The idempotency key was used for another request"),
        Code.IDEMPOTENCY_KEY_IN_FLIGHT: Answer(409, "The first request with this idempotency key has not been answered yet"),
        Code.UNKNOWN_MODEL: Answer(404, "Unknown model"),
        Code.UNKNOWN_ADAPTER: Answer(404, "Unknown adapter"),
        Code.UNKNOWN_METHOD: Answer(422, "Unknown method"),
        Code.UNKNOWN_TOKEN: Answer(404, "Unknown token"),
        Code.UNKNOWN_JOB: Answer(404, "Unknown job"),
        Code.UNKNOWN_ARTIFACT: Answer(404, "Unknown artifact"),
        Code.UNKNOWN_DATASET: Answer(404, "Unknown data set"),
        Code.JOB_EXPIRED: Answer(410, "The job has expired"),
        Code.JOB_NOT_FINISHED: Answer(409, "The job has not finished"),
        Code.JOB_NOT_SUCCESSFUL: Answer(409, "The job did not succeed"),
        Code.JOB_FINISHED: Answer(409, "The job has finished"),
        Code.WRONG_JOB_KIND: Answer(422, "The job is of the wrong kind"),
        Code.IMAGE_INDEX: Answer(422, "The job has no such image"),
        Code.UNKNOWN_SCHEDULER: Answer(422, "The model does not work with this scheduler"),
        Code.UNKNOWN_CLASS: Answer(422, "The token has no such class"),
        Code.TOKEN_EXISTS: Answer(409, "A token of this name exists already"),
        Code.TOKEN_OF_OTHER_MODEL: Answer(422, "The token belongs to another model"),
        Code.ADAPTER_UNFIT: Answer(422, "The adapter does not fit the model"),
        Code.EXAMPLES_OF_OTHER_MODELS: Answer(422, "The examples belong to different models"),
        Code.WORD_NOT_IN_PROMPT: Answer(422, "The word is not in the prompt"),
        Code.PROMPT_TOO_LONG: Answer(422, "The prompt is too long"),
        Code.SIZE_NOT_DIVISIBLE: Answer(422, "The size does not fit the model"),
        Code.SIZE_TOO_LARGE: Answer(422, "The image would be too large"),
        Code.TOO_MANY_STEPS: Answer(422, "Too many steps"),
        Code.TOO_MANY_IMAGES: Answer(422, "Too many images"),
        Code.JOB_TOO_LARGE: Answer(422, "The job would take too much"),
        Code.MASK_NOT_AN_IMAGE: Answer(422, "The mask is not a PNG"),
        Code.MASK_UNREADABLE: Answer(422, "The mask cannot be read"),
        Code.MASK_EMPTY: Answer(422, "The mask is empty"),
        Code.MASK_FULL: Answer(422, "The mask covers everything"),
        Code.MASK_UNUSABLE: Answer(422, "Nothing can be learned from the masks"),
        Code.SELECTION_INVALID: Answer(422, "The selection names something that is not there"),
        Code.SETTINGS_CONTRADICT: Answer(422, "The settings contradict each other"),
        Code.NO_SELF_ATTENTION: Answer(422, "The job kept no self-attention"),
        Code.NO_CLIP: Answer(422, "The model's workers have no CLIP model"),
        Code.TOKEN_OF_OTHER_FAMILY: Answer(422, "The token was learned with another family of models"),
        Code.ATTENTION_UNAVAILABLE: Answer(422, "The model has no attention of this kind"),
        Code.NO_FEATURES: Answer(422, "The job kept no features for the method's network"),
        Code.NO_CONTRIBUTIONS: Answer(422, "The job kept no contributions for automatic aggregation"),
        Code.NO_NETWORK: Answer(422, "The model has no such trained network"),
        Code.NETWORK_OF_OTHER_MODEL: Answer(500, "The trained network belongs to another model"),
        Code.NETWORK_FILE_UNREADABLE: Answer(500, "The trained network cannot be read"),
        Code.CLASS_NOT_TRAINED: Answer(422, "The network was not trained for this class"),
        Code.EMBEDDING_OF_OTHER_WIDTH: Answer(422, "The embedding's width is not the model's"),
        Code.EMBEDDING_NOT_FINITE: Answer(422, "The embedding has values that are not finite numbers"),
        Code.OPTIMIZATION_FAILED: Answer(422, "The optimisation failed"),
        Code.GATE_NOT_PASSED: Answer(422, "No image passed the gate"),
        Code.REGION_OUTSIDE: Answer(422, "The point or box is outside the image"),
        Code.IMAGE_UNREADABLE: Answer(422, "The image cannot be read"),
        Code.IMAGE_TOO_LARGE: Answer(422, "The image has too many pixels"),
        Code.IMAGE_UNSUPPORTED: Answer(422, "This kind of image is not supported"),
        Code.TOKEN_FILE_UNREADABLE: Answer(422, "The token file cannot be read"),
        Code.TOKEN_FILE_UNSAFE: Answer(422, "The token file contains more than arrays and strings"),
        Code.QUEUE_FULL: Answer(429, "Too many jobs are waiting"),
        Code.GATEWAY_BUSY: Answer(503, "The gateway is busy with other large requests"),
        Code.NO_WORKER: Answer(503, "No worker serves a model yet"),
        Code.REDIS_UNAVAILABLE: Answer(503, "The queue cannot be reached"),
        Code.STORE_UNAVAILABLE: Answer(503, "The artifact store cannot be reached"),
        Code.WORKER_DIED: Answer(500, "Workers stopped while running the job"),
        Code.DEADLINE_PASSED: Answer(422, "The job's deadline passed before it ended"),
        Code.RESULT_TOO_LARGE: Answer(422, "The result is too large"),
        Code.OUT_OF_MEMORY: Answer(500, "The worker ran out of memory"),
        Code.PACKAGE_MISSING: Answer(500, "The worker lacks a package"),
        Code.MODEL_FAILED_TO_LOAD: Answer(500, "The model could not be loaded"),
        Code.MODEL_UNSUPPORTED: Answer(500, "The model's attention cannot be read"),
        Code.MODEL_COMPILED: Answer(500, "The model was compiled before its attention was captured"),
        Code.CAPTURE_FAILED: Answer(500, "The attention could not be captured"),
        Code.NOT_REPLAYABLE: Answer(500, "The generation cannot be replayed"),
        Code.TRACE_UNREADABLE: Answer(500, "The trace could not be read"),
        Code.TRACE_MISMATCH: Answer(500, "The trace is of another build of the model"),
        Code.INTERNAL: Answer(500, "Internal error"),
    }
)


class Problem(BaseModel, frozen=True):
    """An RFC 9457 problem. Branch on `code`; read `detail`."""

    type: str = Field(description="where the code is explained: /problems/{code}")
    title: str
    status: int
    detail: str
    code: Code
    instance: str | None = Field(None, description="the path of the request")
    errors: list[FieldError] = []
    estimate: Estimate | None = Field(None, description="of `job-too-large`: what the job would take")
    message: str | None = Field(None, description="`detail` as OpenAI's clients look for it; at their address alone")
    param: str | None = Field(None, description="the first field at fault, likewise")


@dataclass(frozen=True)
class Address:
    """The address of a request."""

    path: str
    root: str
    """The path below which a proxy shows the gateway; empty without one."""

    @staticmethod
    def of(scope: Mapping[str, Any]) -> "Address":
        """The address of a request, as its client wrote it."""
        return Address(scope["path"], root_of(scope).rstrip("/"))


def root_of(scope: Mapping[str, Any]) -> str:
    """The path below which the gateway is shown; where files are mounted, `root_path` is theirs."""
    return scope.get("app_root_path", scope.get("root_path", ""))


def problem(code: Code, detail: str, *, at: Address | None = None, errors: list[FieldError] | None = None) -> Problem:
    """The problem of a code, at an address."""
    answer = ANSWERS[code]
    return Problem(
        type=f"{at.root if at else ''}/problems/{code}",
        title=answer.title,
        status=answer.status,
        detail=printable(detail),
        code=code,
        instance=at.path if at else None,
        errors=errors or [],
    )


def response(found: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem over HTTP."""
    if (found.instance or "").endswith(OPENAI):
        found = found.model_copy(update={"message": found.detail, "param": found.errors[0].field if found.errors else None})
    if (found.instance or "").partition(x_errors.PATH)[1]:
        return x_errors.response(found.code, found.detail, found.status, headers)
    content = found.model_dump_json(exclude_none=True)
    return Response(content, found.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def answer_to(error: ServiceError, at: Address) -> Response:
    """The answer to an error of our own."""
    errors = [] if error.field is None else [FieldError(field=error.field, detail=error.detail, value=shown(error.value))]
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.code is Code.BODY_TOO_SLOW:
        headers["Connection"] = "close"  # what is left of the body is not waited for
    if isinstance(error, RefusalError):
        headers |= error.headers
    if isinstance(error, UnsatisfiableError):
        headers["Content-Range"] = f"bytes */{error.size}"
    found = problem(error.code, error.detail, at=at, errors=errors)
    if isinstance(error, JobTooLargeError):
        found = found.model_copy(update={"errors": error.errors, "estimate": error.estimate})
    if isinstance(error, InvalidLinesError):
        found = found.model_copy(update={"errors": error.errors})
    return response(found, headers)


def install(app: FastAPI) -> None:
    """Let every error of the app be answered as a problem."""
    for kind, handler in (
        (ServiceError, on_service_error),
        (RequestValidationError, on_invalid_request),
        (HTTPException, on_http_exception),
        (RedisError, on_redis_error),
        (StoreError, on_store_error),
        (OSError, on_store_error),  # a local store's; nothing else here touches files
    ):
        app.add_exception_handler(kind, handler)


async def on_service_error(request: Request, error: Exception) -> Response:
    """One of our own."""
    if not isinstance(error, ServiceError):
        raise error
    return answer_to(error, Address.of(request.scope))


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """The body or a parameter is not what the schema says."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    errors = [field_error(each, error.body) for each in found[:MOST_ERRORS]]
    sentences = [f"{each.field}: {each.detail}" for each in errors[:5]]
    if len(found) > len(sentences):
        sentences.append(f"and {len(found) - len(sentences)} more")
    return response(problem(Code.INVALID_REQUEST, "; ".join(sentences), at=Address.of(request.scope), errors=errors))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the router says."""
    if not isinstance(error, HTTPException):
        raise error
    at, headers = Address.of(request.scope), error.headers
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            found = problem(Code.NOT_FOUND, f"there is nothing at {at.path}", at=at)
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(methods_at(request))
            headers = {"Allow": allowed}
            if request.method == "OPTIONS":
                return Response(headers=headers)
            found = problem(
                Code.METHOD_NOT_ALLOWED, f"{at.path} does not have method {request.method}; allowed: {allowed}", at=at
            )
        case _:
            found = problem(Code.INTERNAL, error.detail, at=at)
    return response(found, headers)


def methods_at(request: Request) -> list[str]:
    """The methods that an address has; HEAD goes with GET."""
    found = {"OPTIONS"}
    for method in METHODS:
        scope = {**request.scope, "method": method, "root_path": root_of(request.scope)}
        routes = [each for each in request.app.routes if method == "GET" or not isinstance(each, Mount)]  # mounted are files
        if any(route.matches(scope)[0] is Match.FULL for route in routes):
            found |= {"GET", "HEAD"} if method == "GET" else {method}
    return sorted(found)


async def on_redis_error(request: Request, error: Exception) -> Response:
    """Redis is away."""
    log.warning("redis-unavailable", error=str(error))
    sentence = "Redis cannot be reached; try again"
    return answer_to(ServiceError(Code.REDIS_UNAVAILABLE, sentence, retry_after=RETRY_AFTER), Address.of(request.scope))


async def on_store_error(request: Request, error: Exception) -> Response:
    """The artifact store is away."""
    log.warning("store-unavailable", error=str(error))
    sentence = "the artifact store cannot be reached; nothing was lost, try again"
    return answer_to(ServiceError(Code.STORE_UNAVAILABLE, sentence, retry_after=RETRY_AFTER), Address.of(request.scope))
