"""Maps of labels: who wins where, what is ambiguous, and the files they are kept in."""

import contextlib
import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from ovam.core.label_maps import indexed_png, labels_of, read_indexed_png, voc_palette
from ovam.errors import InvalidArgumentError, LabelMapError

HEAT = np.array([[[0.9, 0.5, 0.1], [0.2, 0.45, 0.0]], [[0.1, 0.8, 0.1], [0.3, 0.5, 0.05]]], np.float32)
ANY_LABELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def test_the_target_of_the_largest_margin_wins_where_it_beats_the_background() -> None:
    assert labels_of(HEAT - 0.4).tolist() == [[1, 2, 0], [0, 2, 0]]
    assert labels_of(HEAT).tolist() == [[1, 2, 1], [2, 2, 2]]
    assert labels_of(HEAT).dtype == np.uint8


def test_of_equals_the_first_target_wins_and_the_background_last() -> None:
    assert labels_of(np.zeros((2, 1, 1))).tolist() == [[1]]
    assert labels_of(np.array([[[0.5]], [[0.5]]])).tolist() == [[1]]
    assert labels_of(np.array([[[-1e-9]], [[-1.0]]])).tolist() == [[0]]


def test_pixels_whose_winner_is_not_far_ahead_are_ambiguous() -> None:
    assert labels_of(HEAT - 0.4, least_gap=0.11).tolist() == [[1, 2, 0], [255, 255, 0]]
    assert labels_of(np.array([[[0.5]], [[0.25]]]), least_gap=0.25).tolist() == [[1]]


@given(arrays.arrays(np.float32, (4, 3, 5), elements=st.floats(0, 1, width=32), unique=True), st.permutations(range(4)))
def test_targets_in_another_order_are_the_same_map_with_other_numbers(heat: np.ndarray, order: list[int]) -> None:
    labels = labels_of(heat - np.float32(0.3), least_gap=0.01)
    turned = labels_of(heat[order] - np.float32(0.3), least_gap=0.01)
    numbers = np.arange(256)
    numbers[1:5] = [label + 1 for label in order]
    assert np.array_equal(numbers[turned], labels)


def test_as_many_targets_as_a_label_can_number_are_taken() -> None:
    heat = np.zeros((255, 1, 2), np.float32)
    heat[253] = 1
    assert labels_of(heat[:254]).tolist() == [[254, 254]]
    for wrong in (heat, heat[:0]):
        with pytest.raises(InvalidArgumentError, match=r"^margins is "):
            labels_of(wrong)
    for gap in (-1.0, float("nan")):
        with pytest.raises(InvalidArgumentError, match=r"^least_gap is "):
            labels_of(HEAT, least_gap=gap)


def test_the_palette_is_pascal_vocs() -> None:
    palette = voc_palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0),
             15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    assert {label: tuple(palette[label].tolist()) for label in known} == known
    assert len(np.unique(palette, axis=0)) == 256


@given(ANY_LABELS)
def test_labels_come_back_from_their_png(labels: np.ndarray) -> None:
    data = indexed_png(labels)
    assert np.array_equal(read_indexed_png(data), labels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), voc_palette()[labels])


@given(st.integers(8, 200), st.binary(min_size=1, max_size=4))
def test_a_damaged_png_gives_labels_or_an_error_of_its_own(place: int, damage: bytes) -> None:
    data = bytearray(indexed_png(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    data[place : place + len(damage)] = damage
    with contextlib.suppress(LabelMapError):
        assert read_indexed_png(bytes(data)).dtype == np.uint8


@pytest.mark.parametrize(
    ("side", "message"), [(9000, "the PNG is 9000 x 9000; allowed: 67108864 pixels"), (20_000, "could be decompression bomb")]
)
def test_a_png_that_promises_too_much_is_not_unpacked(side: int, message: str) -> None:
    data = bytearray(indexed_png(np.zeros((1, 1), np.uint8)))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(LabelMapError, match=message):
        read_indexed_png(bytes(data))


def test_other_files_are_no_labels() -> None:
    whole = indexed_png(np.ones((40, 30), dtype=np.uint8))
    colour = io.BytesIO()
    Image.new("RGB", (3, 4)).save(colour, format="PNG")
    grey = io.BytesIO()
    Image.new("L", (3, 4), 7).save(grey, format="PNG")
    photo = io.BytesIO()
    Image.new("L", (3, 4)).save(photo, format="JPEG")
    for bad in (b"", whole[:60], colour.getvalue(), photo.getvalue(), b"\x93NUMPY"):
        with pytest.raises(LabelMapError):
            read_indexed_png(bad)
    assert (read_indexed_png(grey.getvalue()) == 7).all()
