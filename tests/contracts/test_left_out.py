"""What is left out of records, cards, heartbeats and filters has a meaning, which newer versions keep."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from contracts.schema.comparing import CausalChange, Difference
from contracts.schema.datasets import DatasetClass, DatasetRequest, DatasetState
from contracts.schema.estimates import ModelSizes
from contracts.schema.filters import ClipContrast, ClipCosine, FilledFilters, Filters
from contracts.schema.models import BestMethod, ModelCard
from contracts.schema.webhooks import Delivery
from contracts.schema.workers import Heartbeat, HeldJob
from contracts.state.datasets import ACTIVE
from tests.contracts.test_sources import FILE


def test_what_an_older_worker_leaves_out_is_as_it_was() -> None:
    sizes = ModelSizes(parameters=1, latent_factor=8, unet_channels=1, vae_channels=1, channels={}, self_attention={})
    assert (sizes.self_attention_level, sizes.scheduler_evaluations, sizes.number_bytes, sizes.batch_images) == (0, {}, 4, 1)
    assert (sizes.on_cpu, sizes.device_bytes, sizes.latent_channels, sizes.text_rows) == (True, None, 4, None)
    card = ModelCard(
        name="a", source="a", family="sd1", text_width=1, max_tokens=77, default_height=8, default_width=8, size_multiple=8,
        default_guidance_scale=1,
    )  # fmt: skip
    assert (card.default_scheduler, card.schedulers, card.guidance_embedded, card.blocks) == ("", [], False, [])
    assert (card.default_keep, card.default_self_attention, card.clip, card.sizes, card.default) == (
        "replay",
        False,
        None,
        None,
        False,
    )
    assert card.word_defaults == card.token_defaults == BestMethod(method="ovam")
    beat = Heartbeat.model_validate({"name": "a", "news": 1})  # of a newer one
    assert (beat.host, beat.device, beat.models, beat.since, beat.state, beat.jobs) == ("", "", [], None, "ready", [])
    assert (beat.memory, beat.trace_cache_bytes) == ({}, 0)
    with pytest.raises(ValidationError):
        beat.name = "b"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert not HeldJob(id="a", kind="probe", attempt=1, since=now).on_device
    delivery = Delivery(id="a", tenant="", job_id="a", url="a", body="", created_at=now)
    assert (delivery.tries, delivery.problem) == (0, "")


def test_where_there_are_no_pixels_nothing_is_said_of_them() -> None:
    change = CausalChange(prompt="a cat", inside=None, outside=None, image=FILE, change=FILE)
    difference = Difference(inside=None, outside=None, total=0, iou=1, npy=FILE, picture=FILE)
    assert change.inside is change.outside is difference.inside is difference.outside is None


def test_filters_that_nobody_names_reject_nothing_and_have_the_papers_settings() -> None:
    assert Filters().filled() == FilledFilters(area=None, clip=None, single_colour=False, duplicates=None)
    assert (ClipCosine().drop, ClipContrast().drop) == (0.3, 0.25)


def test_classes_without_a_label_are_counted_and_a_data_set_is_final_when_nothing_follows() -> None:
    classes = [DatasetClass(name="car"), DatasetClass(name="dog", label=12), DatasetClass(name="cat")]
    assert [*DatasetRequest(classes=classes, prompts=["a"]).labels()] == [1, 12, 3]
    assert {state for state in DatasetState if not state.final} == {*ACTIVE, DatasetState.PAUSED}
