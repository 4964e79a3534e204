"""Filters that compare images: exact, whatever their number, and by known answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.schema.attribute import Appraisal
from contracts.schema.datasets import Counts, DatasetRecord, Entry, Found
from contracts.schema.filters import FilledFilters, Filters
from contracts.state.store import ArtifactStore
from service import examples
from service.datasets import comparing
from service.datasets.comparing import at_ranks, compare, sortable
from service.datasets.files import SEGMENT, entries, write_entries
from service.datasets.judging import clip_scores, judged, probability

FLOATS = st.floats(-1, 1, width=32)


@given(st.lists(FLOATS, min_size=1), st.data())
def test_the_value_of_a_rank_is_that_of_the_sorted_values(values: list[float], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))

    async def read() -> AsyncIterator[tuple[tuple[int, str], int]]:
        for value in values:
            yield (0, "car"), sortable(value)

    found = asyncio.run(at_ranks(read, lambda _, __: rank))
    assert found == {(0, "car"): sorted(map(sortable, values))[rank]}


@given(FLOATS, FLOATS)
def test_numbers_keep_their_order_as_bits(one: float, other: float) -> None:
    assert (one < other) == (sortable(one) < sortable(other)) or one == other == 0


def entry(number: int, **fields: object) -> Entry:
    known = {
        "number": number,
        "custom_id": str(number),
        "prompt": "a car",
        "seed": number,
        "state": "accepted",
        "sha256": f"{number:064x}",
    }
    return Entry.model_validate(known | {"height": 10, "width": 10, "found": {"car": {"area": 50, "score": 1}}} | fields)


def scored(number: int, name: str = "car", area: int = 50, clip: float | None = None) -> Entry:
    return entry(number, found={name: {"area": area, "score": 1, "clip": clip}})


async def judgement(filters: Filters, found: Sequence[Entry]) -> list[str]:
    """What became of each entry: its state, or the reason why it was rejected."""
    store = ArtifactStore.at("memory:///")
    record = DatasetRecord.model_validate(examples.DATASET)
    request = record.request.model_copy(update={"filters": filters.filled()})
    record = record.model_copy(update={"request": request, "counts": Counts(entries=len(found))})
    for segment in range(0, len(found), SEGMENT):
        await write_entries(store, record.id, segment // SEGMENT, found[segment : segment + SEGMENT])
    counts = await compare(store, record)
    final = [each async for some in entries(store, record, final=True) for each in some]
    assert [each.number for each in final] == [each.number for each in found]
    assert counts.total() == len(found)
    return [each.reason or each.state for each in final]


async def test_of_each_class_the_lowest_scores_go_and_those_that_equal_the_first_to_stay_stay() -> None:
    cars = [scored(number, clip=number / 10) for number in range(10)]
    dogs = [scored(10 + number, "dog", clip=0.001 * min(number, 4)) for number in range(10)]
    found = await judgement(Filters(preset="paper", area=None), cars + dogs)
    assert found[:10] == ["clip"] * 3 + ["accepted"] * 7
    assert found[10:] == ["clip"] * 3 + ["accepted"] * 7


async def test_percentiles_take_the_smallest_and_the_largest_masks_of_what_the_scores_left() -> None:
    found = await judgement(Filters(preset="published-code", clip=None), [scored(number, area=number) for number in range(100)])
    assert found == ["area"] * 5 + ["accepted"] * 90 + ["area"] * 5


async def test_an_image_with_several_classes_goes_when_it_is_the_lowest_of_one() -> None:
    both = entry(0, found={"car": {"area": 9, "score": 1, "clip": 0.9}, "dog": {"area": 9, "score": 1, "clip": 0.1}})
    others = [scored(1, "car", clip=0.1), *(scored(number, "dog", clip=0.5) for number in (2, 3, 4))]
    found = await judgement(Filters.model_validate({"clip": {"kind": "cosine", "drop": 0.25}}), [both, *others])
    assert found == ["clip", "accepted", "accepted", "accepted", "accepted"]


async def test_of_equal_images_the_first_stays_however_few_hashes_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "HASHES", 100)
    hashes = [f"{7 * (number % 170):08x}{'0' * 56}" for number in range(300)]
    found = await judgement(Filters(duplicates="exact"), [entry(n, sha256=each) for n, each in enumerate(hashes)])
    assert found == ["accepted"] * 170 + ["duplicate"] * 130


async def test_what_was_rejected_or_failed_before_is_compared_to_nothing() -> None:
    failed = entry(0, state="failed", found={}, error={"code": "out-of-memory", "detail": "too large"})
    small = entry(1, state="rejected", reason="area", found={"car": {"area": 0, "score": 0, "clip": -1}})
    found = await judgement(Filters(preset="paper"), [failed, small, *(scored(n, clip=float(n)) for n in range(2, 12))])
    assert found == ["failed", "area", "clip", "clip", "clip", *["accepted"] * 7]


@pytest.mark.parametrize(("area", "reason"), [(4, "area"), (5, None), (95, None), (96, "area")])
def test_a_mask_covers_five_to_ninetyfive_percent_of_the_image(area: int, reason: str | None) -> None:
    assert judged(scored(0, area=area), None, Filters(preset="paper").filled()).reason == reason


def test_a_contrast_is_the_softmax_of_two_texts() -> None:
    appraisal = Appraisal(single_colour=False, looks="", clip=[0.30, 0.28, -1.0, 1.0], clip_scale=100.0)
    logits = np.exp(100 * np.array([0.30, 0.28]))
    scores = clip_scores(appraisal, Filters(preset="published-code").filled())
    assert scores == pytest.approx([logits[0] / logits.sum(), 0.0], abs=1e-6)
    assert clip_scores(appraisal, FilledFilters.model_validate({"clip": {"kind": "cosine"}})) == appraisal.clip
    assert (probability(-1000), probability(1000)) == (0, 1)


def test_fields_beside_a_preset_win() -> None:
    filled = Filters.model_validate({"preset": "published-code", "clip": None, "duplicates": "exact"}).filled()
    assert (filled.clip, filled.single_colour, filled.duplicates) == (None, True, "exact")
    assert Found(area=1, score=1).clip is None
