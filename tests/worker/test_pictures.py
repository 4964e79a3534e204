"""Images of any kind come as upright RGB of the size asked for."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.pictures import read_picture

RED, BLUE, WHITE = (200, 30, 40), (20, 60, 220), (255, 255, 255)


def halves(left: tuple[int, ...] = RED, right: tuple[int, ...] = BLUE, mode: str = "RGB") -> Image.Image:
    """A picture of 32 x 64 (height, width): one colour on the left, another on the right."""
    image = Image.new(mode, (64, 32), right)
    image.paste(left, (0, 0, 32, 32))
    return image


def read(image: Image.Image, size: tuple[int, int] = (32, 64), kind: str = "PNG", **options: Any) -> np.ndarray:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return read_picture(buffer.getvalue(), size)


def near(pixel: np.ndarray, colour: tuple[int, ...], tolerance: int = 3) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= tolerance)


def test_a_picture_of_the_size_asked_for_is_left_as_it_is() -> None:
    assert (read(halves()) == np.asarray(halves())).all()


@pytest.mark.parametrize("size", [(16, 32), (64, 64), (128, 16)])
def test_a_picture_is_resized_to_height_and_width(size: tuple[int, int]) -> None:
    pixels = read(halves(), size)
    assert pixels.shape == (*size, 3)
    assert near(pixels[size[0] // 2, 1], RED, 12)
    assert near(pixels[size[0] // 2, -2], BLUE, 12)


def test_what_is_made_smaller_is_averaged() -> None:
    board = Image.fromarray(np.indices((64, 128)).sum(axis=0).astype(np.uint8) % 2 * 255).convert("RGB")
    assert near(read(board)[8:-8, 8:-8], (127, 127, 127), 8)


TURNS = {1: (16, 0), 2: (16, -1), 3: (16, -1), 4: (16, 0), 5: (0, 16), 6: (0, 16), 7: (-1, 16), 8: (-1, 16)}


@pytest.mark.parametrize(("orientation", "red"), TURNS.items())
def test_a_picture_is_turned_as_its_exif_says(orientation: int, red: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read(halves(), (32, 64) if orientation < 5 else (64, 32), exif=exif)
    assert near(pixels[red], RED)


MODES = {"P": halves().quantize(4), "RGBA": halves().convert("RGBA"), "grey": halves().convert("L"), "1": halves().convert("1")}


@pytest.mark.parametrize("image", MODES.values(), ids=MODES.keys())
def test_every_mode_becomes_the_colours_it_shows(image: Image.Image) -> None:
    assert (read(image) == np.asarray(image.convert("RGB"))).all()


def test_print_colours_become_screen_colours() -> None:
    pixels = read(halves().convert("CMYK"), kind="JPEG", quality=95)
    assert near(pixels[16, 5], RED, 12)
    assert near(pixels[16, -5], BLUE, 12)


def test_sixteen_bits_become_eight() -> None:
    wide = Image.fromarray(np.full((32, 64), 51_400, np.uint16))
    assert (read(wide) == 200).all()


def test_what_is_transparent_shows_white() -> None:
    see_through = halves((*RED, 255), (*BLUE, 0), "RGBA")
    assert near(read(see_through)[16, 5], RED)
    assert near(read(see_through)[16, -5], WHITE)
    half = halves((0, 255), (0, 128), "LA")
    assert near(read(half)[16, -5], (127, 127, 127))
    palette = halves().quantize(4)
    hole = palette.getpixel((60, 5))
    assert near(read(palette, transparency=hole)[16, -5], WHITE)
    assert near(read(palette, transparency=hole)[16, 5], RED)
