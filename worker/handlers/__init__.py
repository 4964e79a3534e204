"""What a worker does for each kind of job."""

from typing import assert_never

from contracts.attribution import AttributeRequest
from contracts.generation import GenerateRequest, ImageRequest
from contracts.jobs import AnyResult
from contracts.optimization import OptimizeRequest
from contracts.probing import ProbeRequest
from contracts.tokens import ImportRequest
from worker.attempts import Attempt
from worker.handlers.attribute import attribute
from worker.handlers.generate import generate
from worker.handlers.image import take_image
from worker.handlers.imports import import_tokens
from worker.handlers.optimize import optimize
from worker.handlers.probe import probe
from worker.resources import Resources


async def handle(attempt: Attempt, resources: Resources) -> AnyResult:
    """Do a job and commit its artifacts; whatever is raised is why it failed or stopped."""
    match attempt.record.request:
        case GenerateRequest() as request:
            return await generate(attempt, request, resources)
        case ImageRequest() as request:
            return await take_image(attempt, request, resources)
        case AttributeRequest() as request:
            return await attribute(attempt, request, resources)
        case ProbeRequest() as request:
            return await probe(attempt, request, resources)
        case OptimizeRequest() as request:
            return await optimize(attempt, request, resources)
        case ImportRequest() as request:
            return await import_tokens(attempt, request, resources)
        case _ as never:
            assert_never(never)
