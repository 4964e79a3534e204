"""Data sets in Redis: their records, and how far they are. Whatever grows with a data set is in the artifact store.

A data set is one hash. Gateways drive it: one leases it for a while, again and again, with a number (the fence) that grows with
each lease from a standstill. What a driver writes counts only while the fence is its own, so that one that was believed dead
changes nothing.

The entries of a data set (what became of each image) are counted one by one, each once, and wait in a second hash until their
segment is complete. It is then written to the store, and leaves Redis: a data set takes the same memory whatever its size.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.access import Limits
from contracts.schema.datasets import Counts, DatasetRecord, DatasetState, DatasetSummary, Entry
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.jobs import utc_now
from contracts.state import keys
from contracts.state.dataset_scripts import ENTER, FORGET, MOVE, RENEW, SEAL, TAKE
from contracts.state.keys import text

SEGMENT = 128  # entries that are stored together
LEASE = timedelta(seconds=10)
REPLAYED_FOR = timedelta(hours=24)
MAX_EVENTS = 1000  # of a data set
REJECTED = "rejected:"
ACTIVE = (DatasetState.QUEUED, DatasetState.RUNNING)


class LostDataset(Exception):  # noqa: N818  # not an error: somebody else drives it, or it is gone
    """The data set is no longer this driver's."""


class Datasets:
    """A tenant's data sets, to whom others' do not exist, or everybody's (None)."""

    def __init__(self, redis: Redis, tenant: str | None = None) -> None:
        self.redis = redis
        self.tenant = tenant
        self.move_script = redis.register_script(MOVE)
        self.take_script = redis.register_script(TAKE)
        self.renew_script = redis.register_script(RENEW)
        self.enter_script = redis.register_script(ENTER)
        self.seal_script = redis.register_script(SEAL)

    async def file(self, record: DatasetRecord, limits: Limits, once: tuple[str, str] | None = None) -> str:
        """Enter a new data set, whose prompts are in the store already; its jobs count against the limits of its client's key.

        Returns its id, or that of the one that was filed `once` before: by an idempotency key, with the request's fingerprint.
        """
        fields = {"record": record.model_dump_json(), "state": record.state, "fence": 0, "limits": limits.model_dump_json()}

        async def enter(pipe: Pipeline) -> str:
            if once and (before := await self.filed(*once)):
                return before
            pipe.multi()
            if once:
                pipe.set(keys.dataset_once(once[0], record.tenant), f"{once[1]} {record.id}", ex=REPLAYED_FOR)
            pipe.hset(keys.dataset(record.id), mapping=fields)
            pipe.zadd(keys.of(record.tenant, keys.DATASETS), {record.id: 0})
            pipe.zadd(keys.DATASETS_DUE, {record.id: 0})
            announce(pipe, record)
            return record.id

        watched = [keys.dataset_once(once[0], record.tenant)] if once else []
        return await self.redis.transaction(enter, *watched, value_from_callable=True)

    async def filed(self, key: str, fingerprint: str) -> str | None:
        """The data set that an earlier copy of a request created, if it is still there. ServiceError: idempotency-key-reused."""
        found = await self.redis.get(keys.dataset_once(key, self.tenant or ""))
        before, dataset_id = text(found).split(" ") if found else ("", "")
        if not dataset_id or not await self.redis.exists(keys.dataset(dataset_id)):
            return None
        if before != fingerprint:
            detail = f"`Idempotency-Key` {key!r} was used for another request (data set {dataset_id})"
            raise ServiceError(Code.IDEMPOTENCY_KEY_REUSED, detail, field="Idempotency-Key")
        return dataset_id

    async def find(self, dataset_id: str) -> DatasetRecord | None:
        """A record as it stands now; None if there is none."""
        record = record_of(await self.redis.hgetall(keys.dataset(dataset_id)))
        return record if record and self.tenant in (None, record.tenant) else None

    async def get(self, dataset_id: str, *, field: str = "dataset_id") -> DatasetRecord:
        """A record; a ServiceError (unknown-dataset) without one."""
        record = await self.find(dataset_id)
        if record is None:
            detail = f"there is no data set {dataset_id!r}"
            raise ServiceError(Code.UNKNOWN_DATASET, detail, field=field, value=dataset_id)
        return record

    async def limits(self, dataset_id: str) -> Limits:
        """How much its jobs may take."""
        return Limits.model_validate_json(await self.redis.hget(keys.dataset(dataset_id), "limits") or "{}")

    async def newest(self, before: str | None, limit: int) -> list[DatasetRecord]:
        """Up to `limit` records, newest first, all older than `before`."""
        edge = "+" if before is None else f"({before}"
        ids = await self.redis.zrevrangebylex(keys.of(self.tenant or "", keys.DATASETS), edge, "-", 0, limit)
        async with self.redis.pipeline(transaction=False) as pipe:
            for each in ids:
                pipe.hgetall(keys.dataset(text(each)))
            found = await pipe.execute()
        return [record for record in map(record_of, found) if record]

    async def forget(self, record: DatasetRecord) -> None:
        """Delete a record; its driver is lost at its next step."""
        names = [keys.dataset(record.id), keys.dataset_open(record.id), keys.events(record.id)]
        names += [keys.of(record.tenant, keys.DATASETS), keys.DATASETS_DUE, keys.bytes_kept(record.tenant)]
        await self.redis.eval(FORGET, len(names), *names, record.id)

    async def pause(self, record: DatasetRecord) -> DatasetRecord:
        """Start no more of it; what is under way is finished. ServiceError (job-finished) for a final one."""
        return await self._moved(record, DatasetState.PAUSED, (*ACTIVE, DatasetState.PAUSED))

    async def resume(self, record: DatasetRecord) -> DatasetRecord:
        """Go on with it, paused or failed. ServiceError (job-finished) for one that is done or canceled."""
        if record.state in ACTIVE:
            return record
        if record.state is DatasetState.FAILED:
            await self.redis.delete(keys.events(record.id))  # who follows it reads from the start, and not that it ended
        return await self._moved(
            record, DatasetState.QUEUED, (DatasetState.PAUSED, DatasetState.FAILED), due=timedelta(), error="", finished_at=""
        )

    async def cancel(self, record: DatasetRecord) -> DatasetRecord:
        """End it; what was accepted so far can be exported. ServiceError (job-finished) for a final one."""
        return await self._moved(record, DatasetState.CANCELED, (*ACTIVE, DatasetState.PAUSED), finished_at=utc_now().isoformat())

    async def _moved(
        self,
        record: DatasetRecord,
        state: DatasetState,
        allowed: tuple[DatasetState, ...],
        *,
        due: timedelta | None = None,
        **fields: str,
    ) -> DatasetRecord:
        before = await self.move(record.id, state, allowed, fields, due=due)
        if before is not None and before not in allowed:
            detail = f"data set {record.id} is already {before}"
            raise ServiceError(Code.JOB_FINISHED, detail, field="dataset_id", value=record.id)
        return await self.get(record.id)

    async def move(
        self,
        dataset_id: str,
        state: DatasetState,
        allowed: tuple[DatasetState, ...],
        fields: Mapping[str, str],
        *,
        fence: int | None = None,
        due: timedelta | None = None,
    ) -> DatasetState | None:
        """Bring a data set that is in one of the `allowed` states into another, with further fields; returns the state before.

        None if it is gone. It is `due` to be driven after a while, or not at all.
        LostDataset when the fence is another's.
        """
        at = "" if due is None else milliseconds(due)
        pairs = [part for pair in {"state": state, **fields}.items() for part in pair]
        states = f"|{'|'.join(allowed)}|"
        answer = await self.move_script(
            keys=[keys.dataset(dataset_id), keys.DATASETS_DUE],
            args=[dataset_id, "" if fence is None else fence, at, states, *pairs],
        )
        if answer and text(answer[0]) == "lost":
            raise LostDataset(dataset_id)
        if answer and len(answer) > 1:
            await self.announce(dataset_id)
        return DatasetState(text(answer[0])) if answer else None

    async def take(self) -> tuple[str, int] | None:
        """Lease a data set that nobody drives: its id and the fence."""
        answer = await self.take_script(keys=[keys.DATASETS_DUE], args=[milliseconds(LEASE), keys.dataset("")])
        return (text(answer[0]), int(answer[1])) if answer else None

    async def renew(self, dataset_id: str, fence: int) -> DatasetState:
        """Keep a lease; returns the state. LostDataset."""
        names = [keys.dataset(dataset_id), keys.DATASETS_DUE]
        state = await self.renew_script(keys=names, args=[dataset_id, fence, milliseconds(LEASE)])
        if state is None:
            raise LostDataset(dataset_id)
        return DatasetState(text(state))

    async def release(self, dataset_id: str) -> None:
        """Let another gateway go on at once."""
        await self.redis.zadd(keys.DATASETS_DUE, {dataset_id: 0}, xx=True)

    async def enter(self, record: DatasetRecord, fence: int, entry: Entry) -> None:
        """Count what became of an image, once. LostDataset."""
        counters = ["done", entry.state if entry.state != "rejected" else f"{REJECTED}{entry.reason}"]
        names = [keys.dataset(record.id), keys.dataset_open(record.id), keys.bytes_kept(record.tenant)]
        values = [fence, entry.number, entry.model_dump_json(exclude_defaults=True), entry.kept_bytes, SEGMENT, *counters]
        if not await self.enter_script(keys=names, args=values):
            raise LostDataset(record.id)

    async def open_entries(self, dataset_id: str) -> tuple[int, dict[int, str]]:
        """How many segments are in the store, and the entries that are not, as lines."""
        sealed = await self.redis.hget(keys.dataset(dataset_id), "sealed")
        found = await self.redis.hgetall(keys.dataset_open(dataset_id))
        return int(sealed or 0), {int(number): text(line) for number, line in found.items()}

    async def seal(self, dataset_id: str, fence: int, segment: int, numbers: list[int]) -> None:
        """Say that a segment is in the store. LostDataset."""
        names = [keys.dataset(dataset_id), keys.dataset_open(dataset_id)]
        if not await self.seal_script(keys=names, args=[fence, segment, *numbers]):
            raise LostDataset(dataset_id)

    async def note(self, dataset_id: str, **fields: str) -> None:
        """Write fields that nothing depends on: why it waits, how fast it is."""
        if await self.redis.hexists(keys.dataset(dataset_id), "state"):
            await self.redis.hset(keys.dataset(dataset_id), mapping=fields)

    async def announce(self, dataset_id: str) -> None:
        """Tell who follows the data set how far it is."""
        record = await self.find(dataset_id)
        if record is not None:
            async with self.redis.pipeline(transaction=False) as pipe:
                announce(pipe, record)
                await pipe.execute()


def announce(pipe: Pipeline, record: DatasetRecord) -> None:
    """Queue the command that appends a data set's event."""
    data = record.model_dump_json(include={"id", "state", "counts", "estimate", "waits", "error"})
    pipe.xadd(keys.events(record.id), {"event": "progress" if record.counts.done else "state", "data": data}, maxlen=MAX_EVENTS)


def record_of(found: Mapping[bytes, bytes]) -> DatasetRecord | None:
    """The record that a hash holds; None for an empty one."""
    fields = {text(name): text(value) for name, value in found.items()}
    if "record" not in fields:
        return None
    filed = DatasetRecord.model_validate_json(fields["record"])
    rejected = {name.removeprefix(REJECTED): int(value) for name, value in fields.items() if name.startswith(REJECTED)}
    counts = {name: int(fields.get(name, 0)) for name in ("done", "accepted", "failed")}
    changed: dict[str, Any] = {
        "state": DatasetState(fields["state"]),
        "counts": Counts(entries=filed.counts.entries, rejected={key: rejected[key] for key in sorted(rejected)}, **counts),
        "kept_bytes": int(fields.get("bytes", 0)),
        "waits": failure(fields.get("waits")),
        "error": failure(fields.get("error")),
        "started_at": moment(fields.get("started_at")),
        "finished_at": moment(fields.get("finished_at")),
    }
    if fields.get("seconds") and filed.estimate:
        changed["estimate"] = filed.estimate.model_copy(update={"seconds": float(fields["seconds"])})
    return filed.model_copy(update=changed)


def summary_of(record: DatasetRecord) -> DatasetSummary:
    """A record without its request."""
    return DatasetSummary.model_validate({name: getattr(record, name) for name in DatasetSummary.model_fields})


def failure(value: str | None) -> Failure | None:
    """A failure that was written as JSON."""
    return Failure.model_validate(json.loads(value)) if value else None


def moment(value: str | None) -> datetime | None:
    """A time that was written."""
    return datetime.fromisoformat(value) if value else None


def milliseconds(life: timedelta) -> int:
    """A time as the scripts take it."""
    return int(life.total_seconds() * 1000)
