"""The best settings by the tuning sets, and whether they are better on the reporting sets too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.evaluation.asking import VOCABULARY, WORDINGS
from experiments.evaluation.recipes import PUBLISHED_RECIPE, RECIPES
from experiments.evaluation.scores import Counts, gain
from experiments.evaluation.settings import key
from experiments.evaluation.tuning import Choice

FIELDS: dict[str, Callable[[str], bool]] = {
    "words": lambda asked: asked == "words",
    "tokens": lambda asked: asked == PUBLISHED_RECIPE,
    "any wording": lambda asked: asked in WORDINGS or asked == VOCABULARY,
    "any tokens": lambda asked: asked in RECIPES,
}
"""Among what the best is chosen, by what is asked for."""
RECIPES_OF_THE_PAPER = {"words": key("ovam", "words"), "tokens": key("ovam", PUBLISHED_RECIPE)}


def leaders(choices: Mapping[str, Choice]) -> dict[str, str]:
    """The key of the best setting of every field, by the mean over the tuning sets."""
    found = {}
    for field, within in FIELDS.items():
        mine = {name: choice for name, choice in choices.items() if within(name.split(" | ")[1])}
        if mine:
            found[field] = max(mine, key=lambda name: mine[name].miou)
    return found


def improvements(
    choices: Mapping[str, Choice], counts: Mapping[str, Mapping[str, Counts]], kinds: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """By how much the best of every field is better than the paper's recipe, in tuning and in reporting."""
    found = {}
    for field, leader in leaders(choices).items():
        recipe = RECIPES_OF_THE_PAPER["words" if "word" in field else "tokens"]
        on_sets = {
            name: asdict(gain(of_set[leader], of_set[recipe], kinds[name]))
            for name, of_set in counts.items()
            if leader in of_set and recipe in of_set
        }
        tuning = choices[leader].miou - choices[recipe].miou
        found[field] = {"best": leader, "instead of": recipe, "tuning": tuning, "reporting": on_sets}
    return found
