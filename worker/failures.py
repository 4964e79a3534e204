"""From an exception to the failure that a job's record keeps: a code and a sentence that is safe to show."""

import torch

from contracts.schema.errors import Code, Failure, ServiceError, service_error
from ovam.errors import OvamError

HOST_OUT_OF_MEMORY = "can't allocate memory"  # PyTorch's words; the exception is a plain RuntimeError


def failure_of(error: Exception) -> Failure:
    """Return what went wrong; the details of an unexpected error stay in the worker's log."""
    match error:
        case ServiceError():
            return Failure.of(error)
        case OvamError():
            return Failure.of(service_error(error))
        case torch.OutOfMemoryError() | MemoryError():
            return out_of_memory()
        case RuntimeError() if HOST_OUT_OF_MEMORY in str(error):
            return out_of_memory()
        case _:
            detail = f"the worker met an unexpected {type(error).__name__}; its log has the details under this job's id"
            return Failure(code=Code.INTERNAL, detail=detail)


def out_of_memory() -> Failure:
    """Return the failure of a job that was too large for the device."""
    detail = "the worker ran out of memory; ask for smaller or fewer images, fewer steps or fewer examples"
    return Failure(code=Code.OUT_OF_MEMORY, detail=detail)
