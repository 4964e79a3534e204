"""Everything that can go wrong, as a closed set of codes.

A code is stable: clients may branch on it. `service/problems.py` holds the one table from codes to HTTP.
"""

from enum import StrEnum
from functools import partial
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from ovam.errors import InvalidArgumentError, OvamError, shown


class Code(StrEnum):
    """The codes of every problem a client can meet."""

    # who asks
    UNAUTHENTICATED = "unauthenticated"
    SCOPE_MISSING = "scope-missing"
    RATE_LIMITED = "rate-limited"
    QUEUE_LIMIT = "queue-limit-reached"
    DEVICE_LIMIT = "device-limit-reached"
    STORAGE_LIMIT = "storage-limit-reached"
    # the request itself
    INVALID_JSON = "invalid-json"
    INVALID_REQUEST = "invalid-request"
    BODY_TOO_LARGE = "body-too-large"
    BODY_TOO_SLOW = "body-too-slow"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    HOST_NOT_ALLOWED = "host-not-allowed"
    ORIGIN_NOT_ALLOWED = "origin-not-allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    IDEMPOTENCY_KEY_IN_FLIGHT = "idempotency-key-in-flight"
    INVALID_ARGUMENT = "invalid-argument"
    # what it names
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_ADAPTER = "unknown-adapter"
    UNKNOWN_METHOD = "unknown-method"
    UNKNOWN_TOKEN = "unknown-token"
    UNKNOWN_JOB = "unknown-job"
    UNKNOWN_ARTIFACT = "unknown-artifact"
    UNKNOWN_DATASET = "unknown-dataset"
    JOB_EXPIRED = "job-expired"
    JOB_NOT_FINISHED = "job-not-finished"
    JOB_NOT_SUCCESSFUL = "job-not-successful"
    JOB_FINISHED = "job-finished"
    WRONG_JOB_KIND = "wrong-job-kind"
    IMAGE_INDEX = "image-index-out-of-range"
    UNKNOWN_SCHEDULER = "unknown-scheduler"
    UNKNOWN_CLASS = "unknown-class"
    TOKEN_EXISTS = "token-exists"
    # what it asks for
    TOKEN_OF_OTHER_MODEL = "token-of-other-model"
    ADAPTER_UNFIT = "adapter-unfit"
    TOKEN_OF_OTHER_FAMILY = "token-of-other-family"
    ATTENTION_UNAVAILABLE = "attention-unavailable"
    EXAMPLES_OF_OTHER_MODELS = "examples-of-other-models"
    WORD_NOT_IN_PROMPT = "word-not-in-prompt"
    PROMPT_TOO_LONG = "prompt-too-long"
    SIZE_NOT_DIVISIBLE = "size-not-divisible"
    SIZE_TOO_LARGE = "size-too-large"
    TOO_MANY_STEPS = "too-many-steps"
    TOO_MANY_IMAGES = "too-many-images"
    JOB_TOO_LARGE = "job-too-large"
    MASK_NOT_AN_IMAGE = "mask-not-an-image"
    MASK_UNREADABLE = "mask-unreadable"
    MASK_EMPTY = "mask-empty"
    MASK_FULL = "mask-full"
    MASK_UNUSABLE = "mask-unusable"
    SELECTION_INVALID = "selection-invalid"
    SETTINGS_CONTRADICT = "settings-contradict"
    NO_SELF_ATTENTION = "no-self-attention"
    NO_CLIP = "no-clip"
    NO_FEATURES = "no-features"
    NO_CONTRIBUTIONS = "no-contributions"
    NO_NETWORK = "no-network"
    NETWORK_OF_OTHER_MODEL = "network-of-other-model"
    NETWORK_FILE_UNREADABLE = "network-file-unreadable"
    CLASS_NOT_TRAINED = "class-not-trained"
    EMBEDDING_OF_OTHER_WIDTH = "embedding-of-other-width"
    EMBEDDING_NOT_FINITE = "embedding-not-finite"
    OPTIMIZATION_FAILED = "optimization-failed"
    GATE_NOT_PASSED = "gate-not-passed"
    REGION_OUTSIDE = "region-outside-image"
    IMAGE_UNREADABLE = "image-unreadable"
    IMAGE_TOO_LARGE = "image-too-large"
    IMAGE_UNSUPPORTED = "image-unsupported"
    TOKEN_FILE_UNREADABLE = "token-file-unreadable"
    TOKEN_FILE_UNSAFE = "token-file-unsafe"
    # the service
    QUEUE_FULL = "queue-full"
    GATEWAY_BUSY = "gateway-busy"
    NO_WORKER = "no-worker"
    REDIS_UNAVAILABLE = "redis-unavailable"
    STORE_UNAVAILABLE = "store-unavailable"
    WORKER_DIED = "worker-died"
    DEADLINE_PASSED = "deadline-passed"
    RESULT_TOO_LARGE = "result-too-large"
    OUT_OF_MEMORY = "out-of-memory"
    PACKAGE_MISSING = "package-missing"
    MODEL_FAILED_TO_LOAD = "model-failed-to-load"
    MODEL_UNSUPPORTED = "model-unsupported"
    MODEL_COMPILED = "model-compiled"
    CAPTURE_FAILED = "capture-failed"
    NOT_REPLAYABLE = "not-replayable"
    TRACE_UNREADABLE = "trace-unreadable"
    TRACE_MISMATCH = "trace-mismatch"
    INTERNAL = "internal-error"


CODES = frozenset(Code)


class FieldError(BaseModel, frozen=True):
    """One field that is wrong: where, why, and what was there."""

    field: str = Field(description="path of the field, e.g. `targets.0.word`")
    detail: str
    value: JsonValue = None


class ServiceError(Exception):
    """A failure reported to the client: a code, a sentence naming field, value and what is allowed."""

    def __init__(
        self, code: Code, detail: str, *, field: str | None = None, value: JsonValue = None, retry_after: int | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.value = value
        self.retry_after = retry_after  # seconds

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how it is made again on the other side of a process' border."""
        more = {"field": self.field, "value": self.value, "retry_after": self.retry_after}
        return partial(ServiceError, self.code, self.detail, **more), ()


class Failure(BaseModel, frozen=True):
    """Why a job failed, as kept in its record."""

    code: Code
    detail: str
    field: str | None = None
    value: JsonValue = None

    @staticmethod
    def of(error: ServiceError) -> "Failure":
        """The record of an error."""
        return Failure(code=error.code, detail=error.detail, field=error.field, value=error.value)


def service_error(error: OvamError, *, field: str | None = None) -> ServiceError:
    """Return an error of the library as it is reported to clients: the same code and sentence, and the field at fault."""
    code = Code(error.code) if error.code in CODES else Code.INTERNAL
    invalid = isinstance(error, InvalidArgumentError)
    return ServiceError(
        code,
        str(error),
        field=field or (error.field if invalid else None),
        value=json_value(error.value) if invalid else None,
    )


def json_value(value: object) -> JsonValue:
    """Return a wrong value as JSON can repeat it."""
    return value if isinstance(value, str | int | float | bool | None) else shown(value)
