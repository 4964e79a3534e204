"""Why trained networks find what they find: rows between others, examples asked for twice, and what is summed up."""

import numpy as np
import pytest
import torch

from experiments.evaluation.report.reasons import GROUNDED, OF_CLASS, OF_IMAGE, OTHER, SCALED, TOKEN, WORD, share
from experiments.trained.asked import Texts, outside
from experiments.trained.cache import Cached
from experiments.trained.reasons import compared, parts
from experiments.trained.taught import either, in_turn, some

PLANE = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])


@pytest.mark.parametrize(("row", "expected"), [([3.0, -2.0, 0.0], 0.0), ([0.0, 0.0, 2.0], 1.0), ([3.0, 0.0, 4.0], 0.64)])
def test_a_row_lies_outside_of_others_as_far_as_it_leaves_their_plane(row: list[float], expected: float) -> None:
    assert outside(torch.tensor(row), PLANE) == pytest.approx(expected, abs=1e-6)


def test_rows_lie_on_the_way_from_the_word_to_the_token() -> None:
    rows = Texts(PLANE[0], torch.tensor([0.0, 0.0, 4.0]), PLANE, number=2).rows()
    torch.testing.assert_close(rows[share(0.25)], torch.tensor([0.75, 0.0, 1.0]))
    torch.testing.assert_close(rows[SCALED], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(rows[OTHER], PLANE[0])
    assert {WORD, TOKEN} < set(rows)


def test_both_things_of_an_example_are_asked_for() -> None:
    masks = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    masks[1, 1] = True
    found = Cached([torch.arange(3.0).view(3, 1, 1, 1)], masks, torch.tensor([[5, -1], [7, 8], [9, 1]]))
    twice = either(some(found, found.classes[:, 1] >= 0))
    assert twice.classes[:, 0].tolist() == [7, 9, 8, 1]
    assert twice.masks[:, 0].any(dim=(1, 2)).tolist() == [False, False, True, False]
    assert twice.levels[0].flatten().tolist() == [1, 2, 1, 2]


def test_losses_take_turns_by_chance() -> None:
    loss = in_turn([lambda _: torch.tensor(0.0), lambda _: torch.tensor(1.0)])
    values = [loss(np.random.default_rng(seed)).item() for seed in range(40)]
    assert 10 < sum(values) < 30


def line(class_name: str, word: int, token: int) -> dict[str, object]:
    counts = {WORD: word, TOKEN: token, OF_CLASS: word, OF_IMAGE: 10}
    return {"class_name": class_name, "counts": {f"{GROUNDED} | {what}": [[both, 10]] for what, both in counts.items()}}


def test_gains_are_told_by_what_the_training_has_seen_and_by_how_well_the_word_does() -> None:
    found = parts([line("cat", 8, 7), line("dog", 2, 6), line("bus", 5, 5)])
    assert found["classes that it has never seen"]["the token"]["value"] == pytest.approx(0.4)
    assert found["classes that it was trained on"]["the token"]["value"] == pytest.approx(-0.05)
    assert found["the third of the images where the word is worst"]["images"] == 1
    assert found["the third of the images where the word is worst"]["the word"] == pytest.approx(0.2)
    assert compared([line("cat", 8, 7)])[OF_IMAGE]["value"] == pytest.approx(0.2)
