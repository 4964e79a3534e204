"""After the storm: the clients' books, the ledger, the registry of tokens and the store are compared."""

import asyncio
import hashlib
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from contracts.schema.jobs import JobRecord, State
from contracts.schema.tokens import TokenCard
from contracts.state import keys
from contracts.state.keys import text
from contracts.state.ledger import REMEMBERED, Ledger
from contracts.state.registry import Registry
from contracts.state.retention import delete_orphans
from contracts.state.store import MANIFEST
from proofs.chaos.clients import TENANTS, Books, Entry
from proofs.chaos.scene import Scene
from proofs.claims import Claim, Log, none
from worker.janitor import delete_expired

SETTLED_WITHIN = 60.0  # seconds after the last client has gone
LIFE = 86_400  # seconds, the default


async def compared(scene: Scene, books: Books, log: Log) -> list[Claim]:
    """All claims about the jobs, when nothing happens any more."""
    await settled(scene)
    records = await all_records(scene)
    kept = [entry for entry in books.entries if entry.fate != "delete"]
    wrong = {
        "lost": [entry for entry in kept if entry.job_id not in records],
        "stuck": [entry for entry in books.entries if not entry.ended or not final(records, entry)],
        "failed": [entry for entry in kept if ended_badly(records, entry)],
        "told otherwise": [entry for entry in kept if entry.job_id in records and records[entry.job_id].state != entry.ended],
    }
    twice = sorted(records.keys() - {entry.job_id for entry in books.entries})
    commits = await committed_twice(scene, records)
    tokens = await tokens_that_differ(scene, records, books)
    files = await files_that_differ(scene, records)
    for what, entries in wrong.items():
        for entry in entries:
            log.write(what, entry=entry, record=records.get(entry.job_id))
    log.write("compared", twice=twice, commits=commits, tokens=tokens, files=files, surprises=books.surprises)
    left = await left_after_collection(scene, log)
    return [
        none("jobs lost", len(wrong["lost"])),
        none("jobs committed twice", len(commits)),
        none("jobs stuck", len(wrong["stuck"])),
        none("jobs failed", len(wrong["failed"])),
        none("jobs filed twice, or that nobody asked for", len(twice)),
        none("jobs whose client was told another end than the ledger's", len(wrong["told otherwise"])),
        none("followers who were told of the end more than once", sum(entry.last_events > 1 for entry in books.entries)),
        none("tokens missing, twice, or without a job", len(tokens)),
        none("files that records name and the store has not, or not so", len(files)),
        none("objects in the store that belong to nothing, after collection", len(left)),
        none("answers that no failure excuses (500, 404 of one's own job, ...)", len(books.surprises)),
    ]


def final(records: dict[str, JobRecord], entry: Entry) -> bool:
    """Whether a job has ended, or is gone."""
    return entry.job_id not in records or records[entry.job_id].state.final


def ended_badly(records: dict[str, JobRecord], entry: Entry) -> bool:
    """Whether a job that is there ended otherwise than its client wanted; who cancels may come too late."""
    allowed = {State.SUCCEEDED} | ({State.CANCELED} if entry.fate == "cancel" else set())
    return entry.job_id in records and final(records, entry) and records[entry.job_id].state not in allowed


async def settled(scene: Scene) -> None:
    """Wait until no job is under way, or long enough."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while time.monotonic() < deadline:
        if all(record.state.final for record in (await all_records(scene)).values()):
            return
        await asyncio.sleep(1)


async def all_records(scene: Scene) -> dict[str, JobRecord]:
    """Every record in Redis, by id."""
    found = {}
    async for name in scene.redis.scan_iter(f"{keys.job('')}*", count=1000):
        if record := JobRecord.stored(await scene.redis.get(name)):
            found[record.id] = record
    return found


async def committed_twice(scene: Scene, records: dict[str, JobRecord]) -> list[str]:
    """Jobs whose events tell of more or fewer ends than one, and kinds whose ends were counted otherwise than there are."""
    wrong = []
    for job_id, record in records.items():
        events = [json.loads(event[b"data"]) for _, event in await scene.redis.xrange(keys.events(job_id))]
        if record.state.final and sum(State(event["state"]).final for event in events) != 1:
            wrong.append(job_id)
    counts = {text(name): int(number) for name, number in (await scene.redis.hgetall(keys.COUNTS)).items()}
    ends = Counter(f"{record.kind}:{record.state}" for record in records.values() if record.state.final)
    return wrong + [name for name, number in ends.items() if counts.get(name, 0) < number]


async def tokens_that_differ(scene: Scene, records: dict[str, JobRecord], books: Books) -> list[str]:
    """Jobs with another number of tokens than one, tokens without a job, names whose versions have gaps."""
    learned, wrong = Counter[str](), list[str]()
    for cards in await all_tokens(scene):
        learned.update(card.id.partition("-")[0] for card in cards)
        if sorted(card.version for card in cards) != [*range(1, len(cards) + 1)]:
            wrong.append(cards[0].name)
    deleted = {entry.job_id for entry in books.entries if entry.fate == "delete"}
    expected = {record.id for record in records.values() if record.kind in ("optimize", "import") and record.result is not None}
    wrong += [job_id for job_id in expected if learned[job_id] != 1]
    return wrong + [job_id for job_id in learned if job_id not in expected | deleted or learned[job_id] > 1]


async def all_tokens(scene: Scene) -> list[list[TokenCard]]:
    """The versions of every name of every tenant."""
    registries = [Registry(scene.redis, tenant) for tenant in TENANTS]
    return [await each.versions(listing.name) for each in registries for listing in await each.page("", 1000)]


async def files_that_differ(scene: Scene, records: dict[str, JobRecord]) -> list[str]:
    """Files of succeeded jobs that are missing, or are not as their manifest and their record say."""
    wrong = []
    for record in records.values():
        if record.result is None or record.kind in ("probe", "import"):
            continue
        folder = keys.attempt_folder(record.id, record.attempt)
        named = await scene.store.manifest(record.id, record.attempt)
        if not named:
            wrong.append(f"{folder}/{MANIFEST}")
        for artifact in named:
            data = await scene.store.get(f"{folder}/{artifact.name}")
            if data is None or hashlib.sha256(data).hexdigest() != artifact.sha256:
                wrong.append(f"{folder}/{artifact.name}")
    return wrong


async def let_expire(scene: Scene) -> None:
    """Give every job's record the rest of life that an expired one has; Redis' clock can't be set forward."""
    async for name in scene.redis.scan_iter(f"{keys.job('')}*", count=1000):
        await scene.redis.expire(name, REMEMBERED)


async def left_after_collection(scene: Scene, log: Log) -> list[str]:
    """What the store holds that belongs to nothing, after the janitor has cleaned when all lives are over."""
    later = datetime.now(UTC) + timedelta(seconds=LIFE) + REMEMBERED + timedelta(days=1)
    patient = scene.store.patiently(10, lambda: None)
    settings = SimpleNamespace(job_ttl_seconds=LIFE)
    resources = cast("Any", SimpleNamespace(redis=scene.redis, ledger=Ledger(scene.redis), store=patient, settings=settings))
    with patch("worker.janitor.utc_now", lambda: later), patch("contracts.state.ledger.utc_now", lambda: later):
        orphans = await delete_orphans(scene.redis, patient, age=timedelta(0))
        await let_expire(scene)
        log.write("collected", jobs=await delete_expired(resources), orphans=orphans)
    registered = {card.id for cards in await all_tokens(scene) for card in cards}
    found = [key async for key in scene.store.keys_below("")]
    left = [key for key in found if key.split("/")[0] != "tokens" or key.split("/")[1] not in registered]
    log.write("left", keys=left)
    return left
