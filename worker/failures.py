"""From an exception to the failure that a job's record keeps: a code and a sentence that is safe to show."""

from typing import Final

import torch
from obstore.exceptions import BaseError as StoreError

from contracts.errors import Code, Failure, ServiceError
from ovam import errors

CODES: Final[dict[type[errors.OvamError], Code]] = {
    errors.WordNotInPromptError: Code.WORD_NOT_IN_PROMPT,
    errors.PromptTooLongError: Code.PROMPT_TOO_LONG,
    errors.TraceFormatError: Code.TRACE_UNREADABLE,
    errors.TraceMismatchError: Code.TRACE_UNREADABLE,
    errors.UnsupportedModelError: Code.MODEL_FAILED_TO_LOAD,
    errors.CompiledModelError: Code.MODEL_FAILED_TO_LOAD,
    errors.InvalidArgumentError: Code.INVALID_REQUEST,
    errors.SelectionError: Code.SELECTION_INVALID,
    errors.NoSelfAttentionError: Code.NO_SELF_ATTENTION,
    errors.UnusableMaskError: Code.MASK_UNREADABLE,
    errors.OptimizationError: Code.OPTIMIZATION_FAILED,
    errors.LabelMapError: Code.MASK_UNREADABLE,
    errors.ExamplesOfOtherModelsError: Code.EXAMPLES_OF_OTHER_MODELS,
    errors.EmbeddingNotFiniteError: Code.EMBEDDING_NOT_FINITE,
    errors.TokenFileError: Code.TOKEN_FILE_UNREADABLE,
    errors.UnsafePickleError: Code.TOKEN_FILE_UNSAFE,
    errors.TokenWidthError: Code.EMBEDDING_OF_OTHER_WIDTH,
}
HOST_OUT_OF_MEMORY = "can't allocate memory"  # PyTorch's words; the exception is a plain RuntimeError


def failure_of(error: Exception) -> Failure:
    """Tell what went wrong; what nobody expected becomes `internal-error`, its details stay in the worker's log."""
    match error:
        case ServiceError():
            return Failure.of(error)
        case errors.OvamError():
            return Failure(code=CODES.get(type(error), Code.INTERNAL), detail=str(error))
        case torch.OutOfMemoryError() | MemoryError():
            return out_of_memory()
        case RuntimeError() if HOST_OUT_OF_MEMORY in str(error):
            return out_of_memory()
        case StoreError():
            return Failure(code=Code.STORE_UNAVAILABLE, detail="the artifact store did not answer as it should")
        case _:
            detail = f"the worker met an unexpected {type(error).__name__}; its log has the details under this job's id"
            return Failure(code=Code.INTERNAL, detail=detail)


def problem_of(error: errors.OvamError, *, field: str) -> ServiceError:
    """An error of the library as the problem of a field."""
    return ServiceError(CODES.get(type(error), Code.INTERNAL), str(error), field=field)


def out_of_memory() -> Failure:
    """The failure of a job that was too large for the device."""
    detail = "the worker ran out of memory; ask for smaller or fewer images, fewer steps or fewer examples"
    return Failure(code=Code.OUT_OF_MEMORY, detail=detail)
