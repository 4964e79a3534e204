"""The loss curve of an optimisation as a picture."""

from collections.abc import Sequence
from math import ceil, floor, log10

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 640, 400
LEFT, TOP, RIGHT, BOTTOM = 76, 28, 24, 56  # margins around the plot
FINE = 2  # supersampling factor, for smooth lines
TICKS = 6  # about as many on an axis
LEAST_RANGE = 1e-4  # of the losses, as a fraction of the highest
INK, FAINT, LINE, BEST = (40, 40, 40), (225, 225, 225), (31, 95, 180), (200, 55, 30)


def loss_curve(losses: Sequence[float], best: int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the loss of every epoch, and mark the lowest."""
    plot = _Plot(last=max(1, len(losses) - 1), low=min(losses), high=max(losses))
    for epoch, text in ticks(0, plot.last, finest=1):
        plot.vertical(epoch, text)
    for loss, text in ticks(plot.low, plot.high):
        plot.horizontal(loss, text)
    plot.frame("epoch", "loss")
    plot.line([plot.place(epoch, loss) for epoch, loss in enumerate(losses)])
    plot.mark(best, losses[best], f"best: {losses[best]:.4g} at epoch {best}")
    return np.asarray(plot.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def ticks(low: float, high: float, finest: float = 0.0) -> list[tuple[float, str]]:
    """List round numbers from `low` to `high` (multiples of 1, 2 or 5 times a power of ten), and how they are written."""
    rough = max(finest, (high - low) / TICKS)
    places = -floor(log10(rough))
    step = next(size / 10**places for size in (1, 2, 5, 10) if size / 10**places >= rough * (1 - 1e-9))
    numbers = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    return [(number * step, f"{number * step:.{max(0, -floor(log10(step) + 1e-9))}f}") for number in numbers]


class _Plot:
    """A picture with two axes."""

    def __init__(self, *, last: float, low: float, high: float) -> None:
        room = max(high - low, abs(high) * LEAST_RANGE, LEAST_RANGE) * 0.06
        self.last, self.low, self.high = last, low - room, high + room
        self.image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(13 * FINE)

    def place(self, epoch: float, loss: float) -> tuple[float, float]:
        """Return where a value lies in the picture: x, y."""
        across = epoch / self.last
        down = (self.high - loss) / (self.high - self.low)
        return (LEFT + across * (WIDTH - LEFT - RIGHT)) * FINE, (TOP + down * (HEIGHT - TOP - BOTTOM)) * FINE

    def vertical(self, epoch: float, text: str) -> None:
        """Draw a vertical line of the grid, with its number below it."""
        (x, bottom), (_, top) = self.place(epoch, self.low), self.place(epoch, self.high)
        self._draw.line([(x, top), (x, bottom)], FAINT, FINE)
        self._draw.text((x, bottom + 6 * FINE), text, INK, self._font, anchor="mt")

    def horizontal(self, loss: float, text: str) -> None:
        """Draw a horizontal line of the grid, with its number on the left."""
        (left, y), (right, _) = self.place(0, loss), self.place(self.last, loss)
        self._draw.line([(left, y), (right, y)], FAINT, FINE)
        self._draw.text((left - 8 * FINE, y), text, INK, self._font, anchor="rm")

    def frame(self, below: str, above: str) -> None:
        """Draw the axes and their names."""
        left, bottom = self.place(0, self.low)
        right, top = self.place(self.last, self.high)
        self._draw.line([(left, top), (left, bottom), (right, bottom)], INK, FINE)
        self._draw.text(((left + right) / 2, (HEIGHT - 10) * FINE), below, INK, self._font, anchor="mb")
        self._draw.text((left, 8 * FINE), above, INK, self._font, anchor="mt")

    def line(self, points: list[tuple[float, float]]) -> None:
        """Draw a curve; nothing for a single point."""
        if len(points) > 1:
            self._draw.line(points, LINE, 2 * FINE, joint="curve")

    def mark(self, epoch: int, loss: float, text: str) -> None:
        """Draw a dot, and above the plot a sentence that explains it."""
        x, y = self.place(epoch, loss)
        radius = 4 * FINE
        self._draw.ellipse([(x - radius, y - radius), (x + radius, y + radius)], BEST)
        right, _ = self.place(self.last, self.high)
        self._draw.text((right, 8 * FINE), text, BEST, self._font, anchor="rt")
