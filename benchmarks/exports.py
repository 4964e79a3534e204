"""How fast labelled images are written in each form, and with how much memory."""

import resource
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.result import Result, Setup, median
from ovam.core.export import FORMS, Annotation, Sample, as_tar, export

SIDE = 64
IMAGES = 1000
CLASSES = {"car": 1, "grass": 2}


def exports(setup: Setup) -> Iterator[Result]:
    """Images a second, as a tar that nobody keeps."""
    for form in FORMS:
        if setup.rows in form:
            rates = [rate(form, setup) for _ in range(setup.times(3))]
            yield Result(
                name=f"export_{form}",
                says=f"images a second, exported as {form} at {SIDE}x{SIDE} with two masks each, median",
                value=median(rates),
                unit="images/s",
                least=100,
                samples=rates,
                details={"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)},
            )


def rate(form: str, setup: Setup) -> float:
    """Export a thousand images once."""
    start = setup.clock()
    for _ in as_tar(export(samples(IMAGES), form, CLASSES)):
        pass
    return IMAGES / (setup.clock() - start)


def samples(count: int) -> Iterator[Sample]:
    """Images with a disc on a lower half."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    blocks = np.random.default_rng(0).integers(0, 255, (16, SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
    images = [png(block.repeat(8, axis=0).repeat(8, axis=1)) for block in blocks]
    grass = rows > SIDE // 2
    for number in range(count):
        car = np.hypot(rows - SIDE / 2, columns - SIDE / 3) < SIDE / 4 + number % 5
        both = [Annotation("car", car, 0.8), Annotation("grass", grass, 0.5)]
        yield Sample(f"image-{number}", images[number % 16], both, prompt="a car on the grass", seed=number)


def png(pixels: np.ndarray) -> bytes:
    """Return an image as a file."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
