"""Numbers from tensors and arrays alike, brought to NumPy."""

from typing import Any

import numpy as np
from jaxtyping import Float


def array_of(values: Any) -> Float[np.ndarray, "..."]:  # noqa: ANN401 - an array or a tensor
    """Return numbers in single precision, or double where they are given so: OpenCV knows no other floats.

    >>> array_of([1, 2]).dtype
    dtype('float32')
    """
    if hasattr(values, "detach"):  # a tensor; torch need not be imported to recognise it
        values = values.detach().cpu()
        values = values.float() if values.dtype.itemsize < 4 else values  # NumPy knows no bfloat16
    numbers = np.asarray(values)
    return numbers if numbers.dtype == np.float64 else numbers.astype(np.float32)
