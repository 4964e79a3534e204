"""No two things are at the same place, and people's jobs do not wait behind long ones."""

from datetime import date
from typing import get_args

import pytest

from contracts.schema.jobs import Priority
from contracts.state import keys

OF_ONE_NAME = [keys.job, keys.events, keys.idempotency, keys.worker, keys.token, keys.job_folder, keys.token_folder, keys.upload]


def test_every_thing_has_a_place_of_its_own() -> None:
    places = [place(name) for place in OF_ONE_NAME for name in ("a", "b")]
    places += [keys.JOBS, keys.QUEUED, keys.MODELS, keys.TOKENIZERS, keys.TOKENS, keys.COUNTS, *keys.DOCKETS]
    places += [keys.KEYS, keys.KEY_NAMES]
    places += [keys.attempt_folder(name, attempt) for name in ("a", "b") for attempt in (1, 2)]
    places += [keys.token_object(name, form) for name in ("a", "b") for form in keys.TOKEN_FILES]
    assert len(set(places)) == len(places)


def test_no_tenant_has_a_place_of_anothers() -> None:
    tenants, day = ("", "a", "b", "ovam"), date(2026, 11, 26)
    places = [keys.of(tenant, name) for tenant in tenants for name in (keys.JOBS, keys.TOKENS)]
    places += [place(name, tenant) for place in (keys.idempotency, keys.token) for name in ("a", "b") for tenant in tenants]
    places += [keys.waiting(lane, tenant) for lane in keys.DOCKETS for tenant in tenants]
    places += [
        place for tenant in tenants for place in (keys.kept(tenant), keys.bytes_kept(tenant), keys.device_seconds(tenant, day))
    ]
    places += [keys.idempotency("a:b"), keys.rate("a")]
    assert len(set(places)) == len(places)


def test_a_job_waits_in_the_whole_queue_its_lanes_and_its_tenants_and_may_be_listed_in_all_of_them() -> None:
    for kind, lane in (("generate", keys.DOCKET), ("probe", keys.INTERACTIVE)):
        assert keys.queues(kind, "a") == {keys.QUEUED, keys.waiting(lane), keys.waiting(lane, "a")} < keys.listings("a")


def test_what_belongs_to_a_job_or_a_token_is_in_its_folder() -> None:
    assert keys.upload("a").startswith(f"{keys.job_folder('a')}/")
    assert keys.attempt_folder("a", 1).startswith(f"{keys.job_folder('a')}/")
    assert all(keys.token_object("a", form).startswith(f"{keys.token_folder('a')}/") for form in keys.TOKEN_FILES)


def test_what_redis_answers_is_text_and_every_image_has_a_trace_of_its_own() -> None:
    assert (keys.text(b"caf\xc3\xa9"), keys.text("café")) == ("café", "café")
    assert keys.trace(0) != keys.trace(1)


def test_no_attempt_gives_a_token_the_id_of_anothers() -> None:
    ids = {keys.token_id(job, attempt, number) for job in ("a", "b") for attempt in (1, 2) for number in (0, 1)}
    assert len(ids) == 8


@pytest.mark.parametrize(
    ("kind", "interactive"),
    [("generate", False), ("image", False), ("optimize", False), ("attribute", True), ("probe", True), ("import", True)],
)
def test_short_jobs_have_a_docket_of_their_own(kind: str, *, interactive: bool) -> None:
    assert (keys.docket_of(kind) == keys.INTERACTIVE) is interactive
    assert keys.docket_of(kind) in keys.DOCKETS


@pytest.mark.parametrize("kind", ["generate", "attribute"])
def test_every_priority_has_a_docket_of_its_own(kind: str) -> None:
    found = [keys.docket_of(kind, priority) for priority in get_args(Priority)]
    assert found == [keys.INTERACTIVE if kind == "attribute" else keys.URGENT, keys.DOCKET, keys.BULK]
    for priority in get_args(Priority):
        assert keys.queues(kind, "a", priority) < keys.listings("a")
