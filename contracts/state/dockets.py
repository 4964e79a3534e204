"""The dockets as gateway and workers open them: a message holds a job id, and nothing that Redis holds is ever unpickled.

docket pickles the arguments of tasks and the values of strikes. Unpickling runs code, so whoever can write to Redis could run
theirs in every gateway and worker. Our one task has no arguments, since its key is the job id: a message whose arguments are
not the pickle of none, byte for byte, is refused before docket decodes it. Strikes, which we do not use, are not read.
"""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

import cloudpickle
from docket import Docket
from docket import worker as docket_worker_module
from docket.execution import Execution, ExecutionState
from docket.strikelist import StrikeList

from contracts.schema.jobs import ALPHABET
from contracts.state import keys

OURS = {b"function": keys.TASK.encode(), b"args": cloudpickle.dumps(()), b"kwargs": cloudpickle.dumps({})}
JOB_ID = re.compile(rf"[{ALPHABET}]{{26}}")

log = logging.getLogger(__name__)


class JobDocket(Docket):
    """A docket that reads no strikes from Redis."""

    @property
    def strike_list(self) -> StrikeList:
        """No strikes, whatever Redis says."""
        return self._strike_list

    @strike_list.setter
    def strike_list(self, _: StrikeList) -> None:
        self._strike_list = StrikeList()  # without a URL it is connected to nothing


class JobExecution(Execution):
    """An execution of the one task.

    A worker that was wrongly taken for dead ends its attempt when another worker is at the job already, by the same message. It
    must not acknowledge that: should the other worker die, nobody would deliver the job again.
    """

    async def _mark_as_terminal(self, state: ExecutionState, **options: Any) -> None:  # noqa: ANN401
        """Acknowledge the message, unless it was delivered again since."""
        if await self.delivered_again():
            self._acked = self._ended = True
        else:
            await super()._mark_as_terminal(state, **options)

    async def delivered_again(self) -> bool:
        """Whether another execution has started by the same message; it has written when."""
        if self.started_at is None:
            return False
        async with self.docket.redis() as redis:
            started = await redis.hget(self._redis_key, "started_at")
        return started is not None and datetime.fromisoformat(started.decode()) != self.started_at

    @classmethod
    async def from_message(cls, docket: Docket, message: dict[bytes, bytes], *arguments: Any, **options: Any) -> Self:  # noqa: ANN401
        """Read a message. One that is not ours, or is damaged, becomes an execution that only says so, and is done with."""
        if all(message.get(name) == value for name, value in OURS.items()) and is_job_id(message.get(b"key")):
            try:
                return await super().from_message(docket, message, *arguments, **options)
            except (KeyError, ValueError):  # another field is missing or damaged
                pass
        message_id = options.get("message_id") or b""
        key = f"refused-{message_id.decode()}"  # not the message's own, which may be a job's
        return cls(docket, refused, (), {}, key, datetime.now(UTC), attempt=1, message_id=options.get("message_id"))


async def refused() -> None:
    """Stand for a message that is not ours."""
    log.error("a message in Redis is not one of a gateway's or a worker's, and is dropped: see docs/security.md")


def is_job_id(key: bytes | None) -> bool:
    """Whether a key has the form of a job id."""
    return key is not None and JOB_ID.fullmatch(key.decode("latin-1")) is not None


async def unknown_of(docket: Docket, job_ids: Sequence[str]) -> list[str]:
    """Return the jobs that do not wait in a docket, by one request: to add a job that does is right, but takes one each."""
    async with docket.redis() as redis:
        pipe = redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hexists(docket.runs_key(job_id), "known")
        waits = await pipe.execute()
    return [job_id for job_id, known in zip(job_ids, waits, strict=True) if not known]


async def enqueue(docket: Docket, job_id: str) -> None:
    """Add a job to its docket, which ignores one that it knows."""
    await docket.add(keys.TASK, key=job_id)()


docket_worker_module.Execution = JobExecution  # docket has no other place to say how its workers read messages
