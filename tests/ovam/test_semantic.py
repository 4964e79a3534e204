"""Maps of labels: who wins where, who is unsure, and the files they are kept in."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import ovam
from ovam.errors import InvalidArgumentError, LabelMapError

HEAT = torch.tensor([[[0.9, 0.5, 0.1], [0.2, 0.45, 0.0]], [[0.1, 0.8, 0.1], [0.3, 0.5, 0.05]]])
ANY_LABELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def test_the_hottest_target_wins_where_it_is_hotter_than_the_background() -> None:
    assert ovam.semantic_map(HEAT, 0.4).tolist() == [[1, 2, 0], [0, 2, 0]]
    assert ovam.semantic_map(HEAT, 0.0).tolist() == [[1, 2, 1], [2, 2, 2]]


def test_pixels_whose_winner_is_not_far_ahead_are_ignored() -> None:
    assert ovam.semantic_map(HEAT, 0.4, margin=0.11).tolist() == [[1, 2, 0], [255, 255, 0]]


def test_the_background_may_be_a_map_of_its_own() -> None:
    background = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.1]])
    assert ovam.semantic_map(HEAT, background).tolist() == [[0, 2, 1], [2, 0, 0]]


@pytest.mark.parametrize("threshold", [ovam.ShareOfMaximum(0.5), ovam.Absolute(0.3), ovam.Otsu()])
def test_one_targets_label_is_its_mask(threshold: object) -> None:
    for heat in (HEAT[0], HEAT[1], torch.zeros(2, 3)):
        labels = ovam.semantic_map(heat[None], threshold)
        assert np.array_equal(labels == 1, ovam.binarize(heat, threshold).numpy())


@settings(deadline=None)
@given(arrays.arrays(np.float32, (4, 3, 5), elements=st.floats(0, 1, width=32), unique=True), st.permutations(range(4)))
def test_targets_in_another_order_are_the_same_map_with_other_numbers(heat: np.ndarray, order: list[int]) -> None:
    labels = ovam.semantic_map(torch.from_numpy(heat), 0.3, margin=0.01)
    turned = ovam.semantic_map(torch.from_numpy(heat[order]), 0.3, margin=0.01)
    numbers = np.arange(256)
    numbers[1:5] = [label + 1 for label in order]
    assert np.array_equal(numbers[turned], labels)


@pytest.mark.parametrize(
    ("heat", "background", "margin", "field"),
    [
        (HEAT[:0], 0.4, 0.0, "heat"),
        (HEAT[:1].expand(255, -1, -1), 0.4, 0.0, "heat"),
        (-HEAT, 0.4, 0.0, "heatmap"),
        (HEAT, -0.1, 0.0, "background"),
        (HEAT, torch.zeros(3, 2), 0.0, "background"),
        (HEAT, 0.4, -1.0, "margin"),
    ],
)
def test_values_outside_are_named(heat: torch.Tensor, background: object, margin: float, field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{field} is "):
        ovam.semantic_map(heat, background, margin=margin)


def test_instances_are_the_regions_largest_first() -> None:
    mask = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=np.bool_)
    assert [int(one.sum()) for one in ovam.instances(mask)] == [4, 1]
    assert [int(one.sum()) for one in ovam.instances(mask, connectivity=4)] == [2, 1, 1, 1]
    assert [int(one.sum()) for one in ovam.instances(mask, minimum_area=2)] == [4]
    assert ovam.instances(np.zeros((3, 4), dtype=np.bool_)) == []
    for options in ({"connectivity": 6}, {"minimum_area": 0}):
        with pytest.raises(InvalidArgumentError):
            ovam.instances(mask, **options)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_instances_part_the_mask(mask: np.ndarray) -> None:
    total = sum((one.astype(int) for one in ovam.instances(mask)), np.zeros(mask.shape, dtype=int))
    assert np.array_equal(total, mask)


def test_the_palette_is_pascal_vocs() -> None:
    palette = ovam.voc_palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0),
             15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    assert {label: tuple(palette[label].tolist()) for label in known} == known
    assert len(np.unique(palette, axis=0)) == 256


@settings(deadline=None)
@given(ANY_LABELS)
def test_labels_come_back_from_their_png(labels: np.ndarray) -> None:
    data = ovam.indexed_png(labels)
    assert np.array_equal(ovam.read_indexed_png(data), labels)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), ovam.voc_palette()[labels])


def test_other_files_are_no_labels() -> None:
    whole = ovam.indexed_png(np.ones((40, 30), dtype=np.uint8))
    colour = io.BytesIO()
    Image.new("RGB", (3, 4)).save(colour, format="PNG")
    grey = io.BytesIO()
    Image.new("L", (3, 4), 7).save(grey, format="PNG")
    photo = io.BytesIO()
    Image.new("L", (3, 4)).save(photo, format="JPEG")
    for bad in (b"", whole[:60], colour.getvalue(), photo.getvalue(), b"\x93NUMPY"):
        with pytest.raises(LabelMapError):
            ovam.read_indexed_png(bad)
    assert (ovam.read_indexed_png(grey.getvalue()) == 7).all()
