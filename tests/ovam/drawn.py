"""Small labelled images, drawn."""

import io
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ovam.core.export import Annotation, Sample

CLASSES = {"car": 7, "grass": 3}


def png() -> bytes:
    """A picture, 8 high and 10 wide."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(240, dtype=np.uint8).reshape(8, 10, 3)).save(buffer, format="PNG")
    return buffer.getvalue()


def square(left: int, right: int, top: int = 0, bottom: int = 8) -> Bool[np.ndarray, "8 10"]:
    """The mask of a rectangle."""
    mask = np.zeros((8, 10), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def car_and_grass(name: str, **known: Any) -> Sample:
    """Two regions of a car, one with a hole, over grass."""
    car = square(1, 6, 2, 5) | square(7, 9, 1, 2)
    car[3, 3] = False
    return Sample(name, png(), [Annotation("car", car, 0.9), Annotation("grass", square(0, 10, 4, 8), 0.4)], **known)
