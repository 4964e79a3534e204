"""`ovam workers` tells what workers publish."""

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from redis import Redis
from rich.console import Console

from contracts.schema.workers import Heartbeat, HeldJob, Memory
from contracts.state import keys
from launcher.workers import table_of
from tests.launcher.test_cli import Run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BUSY = Heartbeat(
    name="gpu-1",
    host="node-7",
    device="cuda:0",
    models=["sd15", "world"],
    since=datetime(2026, 1, 1, 11, tzinfo=UTC),
    jobs=[HeldJob(id="j1", kind="generate", attempt=1, since=datetime(2026, 1, 1, 11, 59, 30, tzinfo=UTC), on_device=True)],
    memory={"host": Memory(used=2**30, total=4 * 2**30), "device": Memory(used=2**20)},
)


def drawn(*beats: Heartbeat) -> str:
    page = StringIO()
    Console(width=200, file=page).print(table_of(beats, NOW))
    return page.getvalue()


def test_a_row_says_where_a_worker_is_what_it_has_and_what_it_does() -> None:
    text = drawn(BUSY, BUSY.model_copy(update={"name": "cpu-1", "state": "paused", "jobs": []}))
    for part in ("gpu-1", "node-7", "sd15, world", "cuda:0", "host 1.0 GiB of 4.0 GiB", "device 1.0 MiB", "ready", "1:00:00"):
        assert part in text
    assert "generate j1 on the device 0:00:30" in text
    assert "paused" in text


def test_that_nobody_is_there_is_said() -> None:
    assert "no worker is alive" in drawn()


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_the_command_reads_what_is_alive_and_passes_over_what_it_cannot_read(
    ovam: Run, redis_url: str, option: tuple[str, ...]
) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.set(keys.worker("gpu-1"), BUSY.model_dump_json()[:-1] + ', "news": 1}')
        redis.set(keys.worker("odd"), "{}")
    done = ovam("workers", *option, OVAM_REDIS_URL=redis_url, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    if option:
        assert [beat["name"] for beat in json.loads(done.stdout)] == ["gpu-1"]
    else:
        assert "gpu-1" in done.stdout
