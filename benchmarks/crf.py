"""A dense CRF in torch beside SimpleCRF's: time, and how many pixels agree."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.result import ROOT, Result, Setup, median
from benchmarks.timing import in_turn
from ovam.core.crf import PAPER, dense_crf
from ovam.fitting.mean_field import dense_crfs

PICTURE = ROOT / "docs" / "demo.png"
SIZES, MASKS = (128, 512), (1, 8)


def crf(setup: Setup) -> Iterator[Result]:
    """One row for each size and number of masks."""
    with Image.open(PICTURE) as sheet:
        whole = np.asarray(sheet.convert("RGB").crop((20, 60, 148, 188)))
    for size in SIZES:
        image = np.asarray(Image.fromarray(whole).resize((size, size), Image.Resampling.BICUBIC))
        bright = image.astype(np.float32).mean(axis=-1)
        for count in MASKS:
            masks = np.stack([bright > np.quantile(bright, (number + 1) / (count + 1)) for number in range(count)])
            yield fitted(setup, image, masks)


def fitted(setup: Setup, image: np.ndarray, masks: np.ndarray) -> Result:
    """One row."""
    exact = np.stack([dense_crf(image, mask) for mask in masks])
    agree = float((dense_crfs(image, masks, PAPER, setup.device) == exact).mean())
    pairs = in_turn(
        lambda: [dense_crf(image, mask) for mask in masks],
        lambda: dense_crfs(image, masks, PAPER, setup.device),
        setup.times(5),
        setup.seconds / 4,
        clock=setup.clock,
    )
    theirs, ours = min(one for one, _ in pairs), min(other for _, other in pairs)
    return Result(
        name=f"crf/{image.shape[0]}/{len(masks)} masks",
        says=f"dense CRF of {len(masks)} masks, {image.shape[0]}x{image.shape[1]}: times as fast in torch as by SimpleCRF",
        value=theirs / ours,
        unit="x",
        samples=[one / other for one, other in pairs],
        details={
            "seconds_simplecrf": theirs,
            "seconds": ours,
            "ratio_of_medians": median([one for one, _ in pairs]) / median([other for _, other in pairs]),
            "agreeing_pixels": agree,
        },
    )
