"""A plot as SVG: curves over counts that double, both axes logarithmic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 640, 400, 60
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")  # told apart by colour-blind readers, too


@dataclass(frozen=True)
class Curve:
    """Values over counts."""

    name: str
    counts: Sequence[int]
    values: Sequence[float]


def log_plot(curves: Sequence[Curve], unit: str) -> str:
    """Draw curves; powers of ten are ruled, and every point shows its count."""
    low = math.floor(math.log10(min(min(curve.values) for curve in curves)))
    high = math.ceil(math.log10(max(max(curve.values) for curve in curves)))
    most = max(math.log2(curve.counts[-1] / curve.counts[0]) for curve in curves)

    def place(doublings: float, value: float) -> tuple[float, float]:
        along = MARGIN + doublings / most * (WIDTH - 3 * MARGIN)
        return along, HEIGHT - MARGIN - (math.log10(value) - low) / max(1, high - low) * (HEIGHT - 2 * MARGIN)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    for power in range(low, high + 1):
        _, level = place(0, 10.0**power)
        parts.append(f'<path d="M{MARGIN} {level:.1f}H{WIDTH - 2 * MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{level + 4:.1f}" text-anchor="end">1e{power} {unit[:1]}</text>')
    for curve, colour in zip(curves, COLOURS, strict=False):
        points = [place(math.log2(n / curve.counts[0]), v) for n, v in zip(curve.counts, curve.values, strict=True)]
        parts.append(
            f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for (x, y), count in zip(points, curve.counts, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            parts.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle" fill="{colour}">{count}</text>')
        parts.append(f'<text x="{points[-1][0] + 8:.1f}" y="{points[-1][1] + 4:.1f}" fill="{colour}">{curve.name}</text>')
    parts.append(f'<text x="{MARGIN}" y="{HEIGHT - 20}">each point: twice as much as the one before</text></svg>')
    return "\n".join(parts) + "\n"
