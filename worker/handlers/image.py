"""Keep the pixel queries of a real image."""

from contracts.generation import GenerateResult, ImageRequest
from worker.attempts import Attempt
from worker.resources import Resources


async def take_image(attempt: Attempt, request: ImageRequest, resources: Resources) -> GenerateResult:
    """Keep the pixel queries of a real image."""
    raise NotImplementedError(attempt, request, resources)
