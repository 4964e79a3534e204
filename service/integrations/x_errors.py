"""Problems in the shape of X-AnyLabeling-Server.

That server answers errors with status 200, which X-AnyLabeling shows as an image in which nothing was found. These keep their
status, which it shows; a full queue is its 503.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from fastapi.responses import JSONResponse

from contracts.schema.errors import Code

PATH = "/integrations/x-anylabeling/"
FULL = "QUEUE_FULL"
CODES = MappingProxyType(  # anything else is an INFERENCE_ERROR
    {
        Code.UNAUTHENTICATED: "UNAUTHORIZED",
        Code.UNKNOWN_MODEL: "MODEL_NOT_FOUND",
        Code.IMAGE_UNREADABLE: "INVALID_IMAGE",
        Code.IMAGE_TOO_LARGE: "INVALID_IMAGE",
        Code.IMAGE_UNSUPPORTED: "INVALID_IMAGE",
        Code.QUEUE_FULL: FULL,
        Code.QUEUE_LIMIT: FULL,
    }
)


def response(code: Code, detail: str, status: int, headers: Mapping[str, str] | None) -> JSONResponse:
    """A problem as that server would tell it; `details` has our own code."""
    theirs = CODES.get(code, "INFERENCE_ERROR")
    error = {"code": theirs, "message": detail, "details": {"code": code}}
    content = {"success": False, "error": error, "detail": detail}
    return JSONResponse(content, HTTPStatus.SERVICE_UNAVAILABLE if theirs == FULL else status, dict(headers or {}))
