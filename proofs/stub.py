"""`python -m proofs.stub`: a worker whose device only takes time. All else is the real worker's: dockets, leases, ledger, store.

Tokens are really imported, since hostile files go that way.
"""

import os
import sys
import time

from contracts.schema.images import GenerateJob, ImageJob
from contracts.schema.jobs import Progress
from contracts.schema.optimize import OptimizeJob
from contracts.schema.tokens import ImportJob
from contracts.state.requests import request_of
from tests.service.drawing_worker import DrawingWorker
from worker import tasks
from worker.__main__ import main
from worker.attempts import Attempt
from worker.device import Priority
from worker.handlers.imports import imports
from worker.outcomes import Outcome
from worker.resources import Resources

SECONDS = "PROOF_DEVICE_SECONDS"
"""The variable that says how long the device takes for a job."""
COMMAND = [sys.executable, "-m", "proofs.stub"]
STEPS = 5


async def pretend(attempt: Attempt, resources: Resources) -> Outcome:
    """Occupy the device for a while, and commit what the tests' worker without a model would."""
    job = await request_of(attempt.record, resources.store)
    if isinstance(job, ImportJob):
        return await imports(attempt, job, resources)
    pause = float(os.environ.get(SECONDS, "0.05")) / STEPS
    long = isinstance(job, GenerateJob | ImageJob | OptimizeJob)

    def occupy() -> None:
        for step in range(STEPS):
            time.sleep(pause)
            if long:
                attempt.report(Progress(done=step + 1, total=STEPS, unit="step"))
                attempt.breathe()

    await attempt.on_device(Priority.GENERATE if long else Priority.INTERACTIVE, occupy)
    record = attempt.record.changed(request=job)
    return Outcome(await DrawingWorker(resources.redis, resources.store).result(record))


if __name__ == "__main__":
    tasks.handle = pretend
    sys.exit(main())
