"""Comparing two settings on the images on which both were measured."""

from collections.abc import Mapping

from experiments.evaluation.lines import Line, counts_of
from experiments.evaluation.scores import Interval, gain

Sets = Mapping[str, list[Line]]
"""Lines of clear images, by data set."""


def gains(sets: Sets, better: str, worse: str) -> dict[str, Interval]:
    """By how much one setting's mIoU is higher than another's, on every set where both were measured."""
    found = {}
    for name, lines in sets.items():
        both = [line for line in lines if better in line["counts"] and worse in line["counts"]]
        if both:
            (ours, classes), (theirs, _) = counts_of(better, both), counts_of(worse, both)
            found[name] = gain(ours[:, 0], theirs[:, 0], classes)
    return found
