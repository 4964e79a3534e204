"""The demo's story is about things that the world has, and what a word means there is known."""

import pytest

from experiments import demo
from experiments.world import atlas
from launcher import story


@pytest.mark.parametrize(("word", "name"), [("puppy", "dog"), ("television", "tvmonitor"), ("grass", None), ("car", "car")])
def test_a_word_means_its_class_or_a_ground(word: str, name: str | None) -> None:
    assert demo.class_of(word) == name


def test_everything_that_the_demo_looks_for_is_in_the_world() -> None:
    words = [word for row in (*story.ROWS, story.REAL) for word in row.words]
    assert all(demo.class_of(word) for word in (*words, story.TOKEN_ROW.word))
    grounds = {word for row in story.ROWS for word in row.words if word not in row.prompt.split()}
    assert grounds, "some words are not in the prompt"


@pytest.mark.parametrize("name", ["named", "unsaid", "hat"])
def test_candidates_look_for_things_of_the_world_which_compete_unless_they_are_one(name: str) -> None:
    rows = list(demo.ASKED[name](7))
    assert rows
    for row in rows:
        assert (row.name, row.seed) == (name, 7)
        assert all(demo.class_of(word) for word in row.words)
        assert row.compete == (name != "unsaid")


def test_hats_are_worn_by_animals_that_wear_them_in_the_world() -> None:
    assert all(animal in atlas.load().kinds for animal in demo.ANIMALS)
