"""The best settings by the tuning sets, and whether they are better on the reporting sets too."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from experiments.evaluation.comparing import Sets, gains
from experiments.evaluation.recipes import PUBLISHED_RECIPE, RECIPES
from experiments.evaluation.settings import key
from experiments.evaluation.targets import TOGETHER, TOKENS_AGAINST_ALL, WORDINGS, WORDS
from experiments.evaluation.tuning import Choice

FIELDS: dict[str, Callable[[str], bool]] = {
    "words": lambda target: target == WORDS,
    "tokens": lambda target: target == PUBLISHED_RECIPE,
    "any words": lambda target: target in WORDINGS or (target in TOGETHER and target != TOKENS_AGAINST_ALL),
    "any tokens": lambda target: target in RECIPES or target == TOKENS_AGAINST_ALL,
}
"""Among what the best is chosen, by what is looked for."""
OF_THE_PAPER = {"words": key("ovam", WORDS), "tokens": key("ovam", PUBLISHED_RECIPE)}


def leaders(choices: Mapping[str, Choice]) -> dict[str, str]:
    """The key of the best setting of every field, by the mean over the tuning sets."""
    found = {}
    for field, within in FIELDS.items():
        mine = {name: choice for name, choice in choices.items() if within(name.split(" | ")[1])}
        if mine:
            found[field] = max(mine, key=lambda name: mine[name].miou)
    return found


def improvements(choices: Mapping[str, Choice], sets: Sets) -> dict[str, dict[str, Any]]:
    """By how much the best of every field is better than the paper's method, in tuning and in reporting."""
    found = {}
    for field, leader in leaders(choices).items():
        method = OF_THE_PAPER["words" if "words" in field else "tokens"]
        if method in choices:
            reporting = {name: asdict(ours) for name, ours in gains(sets, leader, method).items()}
            tuning = choices[leader].miou - choices[method].miou
            found[field] = {"best": leader, "instead of": method, "tuning": tuning, "reporting": reporting}
    return found
