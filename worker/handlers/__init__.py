"""What a worker does for each kind of job."""

from typing import assert_never

from contracts.schema.attribute import AttributeJob
from contracts.schema.images import GenerateJob, ImageJob
from contracts.schema.optimize import OptimizeJob
from contracts.schema.probe import ProbeJob
from contracts.schema.tokens import ImportJob
from contracts.state.requests import request_of
from worker.attempts import Attempt
from worker.handlers.attribute import attribute
from worker.handlers.generate import generate
from worker.handlers.image import image
from worker.handlers.imports import imports
from worker.handlers.optimize import optimize
from worker.handlers.probe import probe
from worker.outcomes import Outcome
from worker.resources import Resources


async def handle(attempt: Attempt, resources: Resources) -> Outcome:
    """Do a job and commit its artifacts; whatever is raised is why it failed or stopped."""
    match await request_of(attempt.record, resources.store):
        case GenerateJob() as job:
            return await generate(attempt, job, resources)
        case ImageJob() as job:
            return await image(attempt, job, resources)
        case AttributeJob() as job:
            return await attribute(attempt, job, resources)
        case ProbeJob() as job:
            return await probe(attempt, job, resources)
        case OptimizeJob() as job:
            return await optimize(attempt, job, resources)
        case ImportJob() as job:
            return await imports(attempt, job, resources)
        case _ as never:
            assert_never(never)
