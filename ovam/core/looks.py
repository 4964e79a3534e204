"""What an image looks like, in a few bits: whether it has one colour, and a hash that images that look the same share."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SIDE = 8  # of the grid of differences, whose 64 signs are the hash


def is_single_coloured(image: UInt8[np.ndarray, "height width 3"]) -> bool:
    """Whether all pixels have the same colour.

    >>> is_single_coloured(np.zeros((4, 4, 3), np.uint8))
    True
    """
    return bool((image == image[:1, :1]).all())


def difference_hash(image: UInt8[np.ndarray, "height width 3"]) -> str:
    """Return the difference hash of an image: 16 hexadecimal digits.

    The image is made grey and 9 pixels wide, 8 high; each bit says whether a pixel is darker than its right neighbour. Sizes,
    compression and small changes of brightness do not change it.

    >>> difference_hash(np.zeros((4, 4, 3), np.uint8))
    '0000000000000000'
    """
    grey = Image.fromarray(image).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(grey)
    return np.packbits(pixels[:, :-1] < pixels[:, 1:]).tobytes().hex()
