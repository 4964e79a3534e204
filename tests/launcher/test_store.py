"""`ovam store`: sizes, checksums, and what is to go."""

import asyncio
import json
from pathlib import Path

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from contracts.schema.jobs import State
from contracts.state import keys, retention
from contracts.state.ledger import Ledger
from contracts.state.store import ArtifactStore
from launcher.cli import app
from launcher.store import in_words
from tests.contracts.test_retention import ended


@pytest.fixture
def ovam(redis_url: str, store_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("OVAM_REDIS_URL", redis_url)
    monkeypatch.setenv("OVAM_STORE_URL", store_url)
    return CliRunner()


@pytest.fixture
def jobs(redis_url: str, store_url: str) -> list[str]:
    """Three jobs that succeeded, 100 bytes each, the first used longest ago."""

    async def made() -> list[str]:
        async with Redis.from_url(redis_url) as redis:
            found = [await ended(Ledger(redis), ArtifactStore.at(store_url)) for _ in range(3)]
            await redis.zadd(keys.USED, {job: retention.now() - 3_600_000 + number for number, job in enumerate(found)})
            return found

    return asyncio.run(made())


def test_sizes_are_shown_by_tier_and_by_job(ovam: CliRunner, jobs: list[str]) -> None:
    shown = ovam.invoke(app, ["store", "sizes", "--jobs", "2"]).stdout.splitlines()
    assert shown[0] == "replays     180 bytes"
    assert shown[2].endswith("of 3 jobs")
    assert len(shown) == 5
    found = json.loads(ovam.invoke(app, ["store", "sizes", "--json"]).stdout)
    assert set(found["jobs"]) == set(jobs)
    assert found["tiers"]["replays"] == 180


def test_a_damaged_file_is_named_and_the_exit_code_tells(ovam: CliRunner, jobs: list[str], tmp_path: Path) -> None:
    for name in ("image-0.png", keys.replay(0)):
        (tmp_path / "store" / "jobs" / jobs[1] / "1" / name).write_bytes(b"x" * (40 if name.endswith("png") else 60))
    answer = ovam.invoke(app, ["store", "verify"])
    assert answer.exit_code == 1
    assert f"jobs/{jobs[1]}/1/image-0.png: its SHA-256 is another" in answer.stdout
    found = json.loads(ovam.invoke(app, ["store", "verify", "--json"]).stdout)
    assert {damage["key"] for damage in found} >= {f"jobs/{jobs[1]}/1/image-0.png"}


def test_the_jobs_used_longest_ago_are_collected(ovam: CliRunner, jobs: list[str], redis_url: str) -> None:
    found = json.loads(ovam.invoke(app, ["store", "collect", "--bytes", "150", "--json"]).stdout)
    assert found == {"jobs": jobs[:2], "orphans": []}

    async def states() -> list[State]:
        async with Redis.from_url(redis_url) as redis:
            return [(await Ledger(redis).get(job)).state for job in jobs]

    assert asyncio.run(states()) == [State.EXPIRED, State.EXPIRED, State.SUCCEEDED]


def test_a_redis_that_is_away_is_said(ovam: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_REDIS_URL", "redis://127.0.0.1:1/0")
    answer = ovam.invoke(app, ["store", "collect", "--bytes", "0"])
    assert answer.exit_code == 1
    assert "Redis cannot be reached" in answer.stderr


def test_sizes_are_told_as_people_read_them() -> None:
    assert [in_words(size) for size in (0, 999, 1000, 1_540_000, 7.2e9)] == ["0 bytes", "999 bytes", "1.0 kB", "1.5 MB", "7.2 GB"]
