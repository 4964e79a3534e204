"""Take tokens from a file."""

from contracts.tokens import ImportRequest, ImportResult
from worker.attempts import Attempt
from worker.resources import Resources


async def import_tokens(attempt: Attempt, request: ImportRequest, resources: Resources) -> ImportResult:
    """Take tokens from a file."""
    raise NotImplementedError(attempt, request, resources)
