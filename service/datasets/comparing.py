"""What becomes of images beside all others: duplicates, and of each class the lowest scores, the smallest and largest masks.

All of it is exact, and takes the same memory for a million images as for a thousand, but for a byte of each: the entries are
read from the store again and again. Duplicates are sought among a part of all hashes at a time. The value below which a share of
all values lies is found digit by digit, from the highest: each read counts, for each class, how many values have which digit.
"""

import math
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from contracts.schema.datasets import DatasetRecord, Entry, Found
from contracts.schema.filters import AreaPercentiles, FilledFilters
from contracts.state.store import ArtifactStore
from service.datasets.files import entries, write_entries
from service.datasets.judging import AREA, CLIP, DUPLICATE

HASHES = 100_000  # in memory at a time
DIGITS = ((21, 11), (10, 11), (0, 10))  # of a number of 32 bits: shift and width, the highest first
HUNDRED = 100
ROUNDING = 1e-9  # 0.29 x 100 is a little less than 29


@dataclass(frozen=True)
class Cut:
    """A share of each class's images that is rejected: those of the lowest values, or of the highest."""

    reason: str
    value: Callable[[Found], int]
    """What is compared, as a number of 32 bits."""
    share: float
    highest: bool = False

    def rank(self, count: int) -> int:
        """Which of `count` values in ascending order is the last on this end that stays."""
        dropped = min(count - 1, math.floor(self.share * count + ROUNDING))
        return count - 1 - dropped if self.highest else dropped

    def rejects(self, found: Found, limit: int) -> bool:
        """Whether a value is beyond the limit; values that equal it stay."""
        return self.value(found) > limit if self.highest else self.value(found) < limit


Limits = dict[tuple[int, str], int]
"""By the number of a cut and the name of a class."""


async def compare(store: ArtifactStore, record: DatasetRecord) -> Counter[str]:
    """Judge all entries, and store what became of them in the end; returns how many there are of each state and reason."""
    twice = await duplicates(store, record)
    cuts = cuts_of(record.request.filters)
    limits = await limits_of(store, record, cuts, twice)
    counts, segment = Counter[str](), 0
    async for found in entries(store, record):
        final = [verdict(each, cuts, limits, twice) for each in found]
        counts.update(f"rejected:{each.reason}" if each.state == "rejected" else each.state for each in final)
        await write_entries(store, record.id, segment, final, final=True)
        segment += 1
    return counts


def verdict(entry: Entry, cuts: list[Cut], limits: Limits, twice: bytearray) -> Entry:
    """What became of an entry. One with several classes is rejected if it would be for any of them."""
    if entry.state != "accepted":
        return entry
    if twice[entry.number]:
        return entry.rejected(DUPLICATE)
    for number, cut in enumerate(cuts):
        if any(cut.rejects(found, limits[number, name]) for name, found in entry.found.items()):
            return entry.rejected(cut.reason)
    return entry


def cuts_of(filters: FilledFilters) -> list[Cut]:
    """The cuts that filters ask for."""
    found = [Cut(CLIP, lambda each: sortable(each.clip or 0.0), filters.clip.drop)] if filters.clip else []
    if isinstance(filters.area, AreaPercentiles):
        found.append(Cut(AREA, area, filters.area.least / HUNDRED))
        found.append(Cut(AREA, area, 1 - filters.area.most / HUNDRED, highest=True))
    return found


def area(found: Found) -> int:
    """Pixels."""
    return found.area


def sortable(value: float) -> int:
    """The bits of a number in single precision, as a number of 32 bits of the same order."""
    (bits,) = struct.unpack(">I", struct.pack(">f", value))
    return bits ^ 0xFFFFFFFF if bits >> 31 else bits | 1 << 31


async def duplicates(store: ArtifactStore, record: DatasetRecord) -> bytearray:
    """A one for each entry whose image is that of an earlier one."""
    twice, kind = bytearray(record.counts.entries), record.request.filters.duplicates
    parts = 0 if kind is None else math.ceil(record.counts.entries / HASHES)
    for part in range(parts):
        seen = set[str]()
        async for found in entries(store, record):
            for each in found:
                name = each.sha256 if kind == "exact" else each.looks
                if each.state == "accepted" and int(name[:8], 16) % parts == part:
                    twice[each.number] = name in seen
                    seen.add(name)
    return twice


async def limits_of(store: ArtifactStore, record: DatasetRecord, cuts: list[Cut], twice: bytearray) -> Limits:
    """The limit of each cut and class, among the images that nothing else rejects."""

    async def values() -> AsyncIterator[tuple[tuple[int, str], int]]:
        async for found in entries(store, record):
            for each in found:
                if each.state == "accepted" and not twice[each.number]:
                    for name, one in each.found.items():
                        for number, cut in enumerate(cuts):
                            yield (number, name), cut.value(one)

    return await at_ranks(values, lambda name, count: cuts[name[0]].rank(count)) if cuts else {}


async def at_ranks(
    values: Callable[[], AsyncIterator[tuple[tuple[int, str], int]]], rank_of: Callable[[tuple[int, str], int], int]
) -> Limits:
    """Of each name, the value of a rank (from 0, in ascending order, by how many values there are): a radix selection."""
    known: dict[tuple[int, str], tuple[int, int]] = {}  # the digits so far, and the rank among the values that have them
    for shift, width in DIGITS:
        counts: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda size=1 << width: [0] * size)
        async for name, value in values():
            if value >> (shift + width) == (known[name][0] if known else 0):
                counts[name][value >> shift & (1 << width) - 1] += 1
        known = {name: next_digit(each, width, known.get(name), rank_of(name, sum(each))) for name, each in counts.items()}
    return {name: digits for name, (digits, _) in known.items()}


def next_digit(counts: list[int], width: int, before: tuple[int, int] | None, rank: int) -> tuple[int, int]:
    """One digit more of the value of a rank, which on the first digit is `rank`; and the rank that is left."""
    digits, rank = before or (0, rank)
    for digit, count in enumerate(counts):
        if rank < count:
            return digits << width | digit, rank
        rank -= count
    raise AssertionError("a rank is less than the number of values")
