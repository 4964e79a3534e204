"""Brush masks, as Label Studio's own library reads and writes them."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.schema.errors import ServiceError
from service.integrations.label_studio import brush

FOLDER = os.environ.get("CLIENT_GENERATORS")
PYTHON = Path(FOLDER or "", "bin", "python")
THEIRS = """
import json, sys
import numpy as np
from label_studio_sdk.converter import brush
ours, masks = json.load(sys.stdin)
found = [brush.decode_rle(rle).tolist() for rle in ours]
print(json.dumps([found, [brush.mask2rle(np.array(mask, np.uint8) * 255) for mask in masks]]))
"""
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def masks() -> list[np.ndarray]:
    """Masks with runs of every length: single pixels, rows, more than a run can hold, nothing, everything."""
    large = np.zeros((200, 150), np.bool_)
    large[3:190, 5] = large[100, :] = True
    noise = np.random.default_rng(1).random((31, 17)) > 0.5
    return [large, noise, np.zeros((300, 200), np.bool_), np.ones((300, 200), np.bool_), np.ones((1, 1), np.bool_)]


@given(MASKS)
def test_a_mask_comes_back(mask: np.ndarray) -> None:
    assert np.array_equal(brush.decoded(bytes(brush.encoded(mask)), mask.shape), mask)


def test_a_small_mask_is_these_bits() -> None:
    bits = (
        f"{2 * 4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"  # 8 words of 8 bits; lengths of 3, 4, 8, 16 bits
        + "1" + "00" + "011" + "00000000"  # four words of 0
        + "1" + "00" + "011" + "11111111"  # four words of 255
    )  # fmt: skip
    data = bytes(brush.encoded(np.array([[False, True]])))
    assert "".join(f"{byte:08b}" for byte in data).rstrip("0") == bits.rstrip("0")
    assert len(data) == -(-len(bits) // 8)


def test_words_that_are_not_repeated_are_read() -> None:
    words = "".join(f"{value:08b}" for value in (0, 0, 0, 255, 9, 9, 9, 127))
    bits = f"{8:032b}" + "00111" + "0010001101111111" + "0" + "00" + "111" + words
    data = int(bits.ljust(8 * 20, "0"), 2).to_bytes(20)
    assert brush.decoded(data, (1, 2)).tolist() == [[True, False]]  # rather opaque, and rather not


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", (1, 1)),
        (b"\0" * 4, (1, 1)),
        (bytes(brush.encoded(np.ones((2, 2), np.bool_)))[:-2], (2, 2)),
        (bytes(brush.encoded(np.ones((2, 2), np.bool_))), (2, 3)),
        (bytes(brush.encoded(np.ones((2, 2), np.bool_))), (100_000, 100_000)),
        (b"\xff" * 40, (2, 2)),
    ],
)
def test_what_is_no_mask_of_this_size_is_refused(data: bytes, size: tuple[int, int]) -> None:
    with pytest.raises(ServiceError) as refused:
        brush.decoded(data, size)
    assert refused.value.code == "mask-unreadable"


def test_a_run_beyond_the_image_is_refused() -> None:
    bits = f"{4:032b}" + "00111" + "0010001101111111" + "1" + "00" + "111" + "11111111"  # eight words for one pixel
    with pytest.raises(ServiceError, match="more pixels"):
        brush.decoded(int(bits.ljust(80, "0"), 2).to_bytes(10), (1, 1))


@pytest.mark.skipif(FOLDER is None, reason="needs Label Studio's library, which `make clients` installs")
def test_label_studio_s_library_reads_ours_and_we_read_its() -> None:
    sent = json.dumps([[brush.encoded(mask) for mask in masks()], [mask.tolist() for mask in masks()]])
    done = subprocess.run([PYTHON, "-c", THEIRS], input=sent, capture_output=True, text=True, check=True)
    read, written = json.loads(done.stdout.splitlines()[-1])  # the library may print what it lacks
    for mask, pixels, rle in zip(masks(), read, written, strict=True):
        assert np.array_equal(np.reshape(pixels, (*mask.shape, 4)), np.repeat(mask[..., None] * 255, 4, axis=2))
        assert np.array_equal(brush.decoded(bytes(rle), mask.shape), mask)
        assert len(brush.encoded(mask)) <= len(rle)
