"""What an image looks like, in a few bits."""

import numpy as np
import pytest
from PIL import Image

from ovam.core.looks import difference_hash, is_single_coloured


def ramp(height: int, width: int, *, reverse: bool = False) -> np.ndarray:
    line = np.linspace(0, 255, width).astype(np.uint8)
    return np.repeat(np.tile(line[::-1] if reverse else line, (height, 1))[..., None], 3, axis=2)


@pytest.mark.parametrize(("reverse", "expected"), [(False, "f" * 16), (True, "0" * 16)])
def test_the_bits_say_where_it_gets_brighter_from_left_to_right(*, reverse: bool, expected: str) -> None:
    assert difference_hash(ramp(64, 90, reverse=reverse)) == expected


def test_an_image_keeps_its_hash_at_another_size_and_loses_it_mirrored() -> None:
    small = np.random.default_rng(3).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((90, 80), Image.Resampling.NEAREST))
    assert difference_hash(large) == difference_hash(small) != difference_hash(small[:, ::-1].copy())


def test_one_pixel_of_another_colour_is_enough() -> None:
    image = np.full((5, 7, 3), 200, dtype=np.uint8)
    assert is_single_coloured(image)
    image[4, 6, 2] = 201
    assert not is_single_coloured(image)
