"""What a worker does for each kind of job."""

from typing import assert_never

from contracts.jobs import AttributeResult, GenerateResult, OptimizeResult
from contracts.requests import AttributeRequest, GenerateRequest, OptimizeRequest
from worker.attempts import Attempt
from worker.handlers.attribute import attribute
from worker.handlers.generate import generate
from worker.handlers.optimize import optimize
from worker.resources import Resources


async def handle(attempt: Attempt, resources: Resources) -> GenerateResult | AttributeResult | OptimizeResult:
    """Do a job and commit its artifacts; whatever is raised is why it failed or stopped."""
    match attempt.record.request:
        case GenerateRequest() as request:
            return await generate(attempt, request, resources)
        case AttributeRequest() as request:
            return await attribute(attempt, request, resources)
        case OptimizeRequest() as request:
            return await optimize(attempt, request, resources)
        case _ as never:
            assert_never(never)
