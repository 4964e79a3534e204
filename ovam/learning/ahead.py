"""What keeps a GPU busy while tokens are learned: it runs ahead of the checks, and an epoch is launched as one graph."""

from collections.abc import Callable

import torch
from torch import Tensor

EPOCHS_AHEAD = 8
"""How far a GPU may be ahead of the epoch whose loss is checked; what it did beyond the last one is dropped."""

Work = Callable[[], tuple[Tensor, Tensor]]


def epochs_ahead(device: torch.device) -> int:
    """Return how many epochs to start before the first one's loss is looked at: none where work is done as it is asked for."""
    return EPOCHS_AHEAD if device.type == "cuda" else 0


class Coming:
    """A number on its way from the device. To read it waits for the work that it is from, not for what was started later."""

    def __init__(self, value: Tensor) -> None:
        self._value, self._here = value, None
        if value.is_cuda:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            self._here = torch.cuda.Event()
            self._here.record()

    def __float__(self) -> float:
        """Wait for it."""
        if self._here is not None:
            self._here.synchronize()
        return float(self._value)


def recorded(work: Work, device: torch.device) -> Work:
    """Return work that gives what `work` does, launched as one graph on a GPU; each call overwrites the last one's result.

    An epoch is hundreds of small kernels, which take longer to launch than to run. Where work cannot be recorded, or comes out
    differently, it is done as before.
    """
    if device.type != "cuda":
        return work
    expected = _warmed(work)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = work()
    except RuntimeError:  # it waits for the device, or copies from the host
        return work
    graph.replay()
    if not all(torch.allclose(one, other, rtol=1e-3, equal_nan=True) for one, other in zip(result, expected, strict=True)):
        return work

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return result

    return replay


def _warmed(work: Work) -> tuple[Tensor, Tensor]:
    """Do work twice beside the current stream, as recording asks for: kernels are compiled, memory is set aside."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        work()
        result = work()
    torch.cuda.current_stream().wait_stream(beside)
    return result
