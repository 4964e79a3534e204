"""`ovam webhooks`: what failed is listed and sent again, secrets are shown and changed."""

import asyncio
import json

import pytest
from redis import Redis
from typer.testing import CliRunner

from contracts.schema.jobs import utc_now
from contracts.schema.webhooks import Delivery
from contracts.state import keys
from contracts.state.outbox import Outbox
from launcher.cli import app


@pytest.fixture
def ovam(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("OVAM_REDIS_URL", redis_url)
    return CliRunner()


def given_up(url: str, delivery_id: str) -> None:
    """Leave a delivery that nobody took."""
    delivery = Delivery(id=delivery_id, tenant="", job_id="j", url="https://example.org/hook", body="{}", created_at=utc_now())

    async def work() -> None:
        from redis.asyncio import Redis as AsyncRedis  # noqa: PLC0415

        async with AsyncRedis.from_url(url) as redis:
            await redis.set(keys.delivery(delivery_id), delivery.model_dump_json(), ex=60)
            await Outbox(redis).failed(delivery, "answered 500", for_good=True)

    asyncio.run(work())


def test_what_failed_is_listed_and_replayed(ovam: CliRunner, redis_url: str) -> None:
    for name in ("first", "second"):
        given_up(redis_url, name)
    listed = ovam.invoke(app, ["webhooks", "list"]).stdout.splitlines()
    assert listed == [f"failed  {name}  https://example.org/hook  1 tries, answered 500" for name in ("second", "first")]
    assert ovam.invoke(app, ["webhooks", "replay", "first"]).stdout == "1 replayed\n"
    found = json.loads(ovam.invoke(app, ["webhooks", "list", "--json"]).stdout)
    assert [[each["id"] for each in found[name]] for name in ("failed", "waiting")] == [["second"], ["first"]]
    assert json.loads(ovam.invoke(app, ["webhooks", "replay", "--json"]).stdout) == {"replayed": ["second"]}
    with Redis.from_url(redis_url) as redis:
        assert redis.zcard(keys.OUTBOX) == 2
    done = ovam.invoke(app, ["webhooks", "replay", "nothing"])
    assert (done.exit_code, "there is no delivery nothing" in done.stderr) == (1, True)


def test_a_secret_is_shown_and_changed(ovam: CliRunner) -> None:
    first = ovam.invoke(app, ["webhooks", "secret", "--tenant", "team"]).stdout
    assert first.startswith("whsec_")
    assert ovam.invoke(app, ["webhooks", "secret", "--tenant", "team"]).stdout == first
    second = ovam.invoke(app, ["webhooks", "secret", "--tenant", "team", "--rotate"]).stdout
    assert second != first
    assert ovam.invoke(app, ["webhooks", "secret"]).stdout not in (first, second)
