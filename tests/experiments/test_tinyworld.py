"""The procedural world: what is drawn is what the masks and captions say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.tinyworld.annotator import Annotator, measured
from experiments.tinyworld.captions import caption
from experiments.tinyworld.render import TRAINING, example
from experiments.tinyworld.scene import SIZE, draw, sample
from experiments.tinyworld.shapes import CLASS_NAMES, SHAPES
from experiments.tinyworld.text import new_tokenizer

seeds = st.integers(0, 2**31)


@given(seeds)
def test_the_same_seed_draws_the_same_scene(seed: int) -> None:
    one, other = example(TRAINING, seed), example(TRAINING, seed)
    assert np.array_equal(one[0].image, other[0].image)
    assert one[1] == other[1]


@given(seeds)
def test_things_never_share_a_pixel_and_every_thing_is_seen(seed: int) -> None:
    drawing, _ = example(TRAINING, seed)
    assert np.sum(drawing.things, axis=0).max() <= 1
    assert all(mask.sum() > 20 for mask in drawing.things)


@given(seeds)
def test_parts_lie_within_their_thing(seed: int) -> None:
    drawing, _ = example(TRAINING, seed)
    for name, mask in drawing.parts.items():
        owner = drawing.of_class(name.split("/")[0])
        assert not (mask & ~owner).any()


@given(seeds)
def test_a_caption_names_every_thing_by_its_name_or_a_synonym(seed: int) -> None:
    drawing, text = example(TRAINING, seed)
    for thing in drawing.scene.things:
        assert any(word in text.split() or word in text for word in (thing.shape.name, *thing.shape.synonyms))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_mask_is_where_the_thing_changed_the_picture(shape: object) -> None:
    rng = np.random.default_rng(5)
    scene = sample(rng, (shape.name,))
    drawing = draw(scene, np.random.default_rng(1))
    ground = draw(type(scene)(scene.ground, ()), np.random.default_rng(1))
    changed = np.abs(drawing.image.astype(int) - ground.image).max(axis=2) > 60
    mask = drawing.things[0]
    assert (changed & mask).sum() > 0.7 * mask.sum()
    assert not changed[~np.asarray(mask_grown(mask))].any()


def mask_grown(mask: np.ndarray) -> np.ndarray:
    grown = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            grown |= np.roll(grown, shift, axis)
    return grown


def test_the_worlds_words_are_one_token_each_and_others_are_pieces() -> None:
    texts = [caption(np.random.default_rng(k), sample(np.random.default_rng(k))) for k in range(4000)]
    tokenizer = new_tokenizer(texts)
    for name in CLASS_NAMES:
        assert len(tokenizer(name).input_ids) == 3
    assert len(tokenizer("bicycle").input_ids) > 3
    assert tokenizer("A Photograph of a CAR").input_ids == tokenizer("a photograph of a car").input_ids


def test_the_annotator_agrees_with_exact_masks_of_unseen_renders() -> None:
    assert measured(Annotator.load(), 100)["mIoU"] > 0.93


def test_drawings_have_the_size_the_model_makes() -> None:
    drawing, _ = example(TRAINING, 0)
    assert drawing.image.shape == (SIZE, SIZE, 3)
    assert drawing.labels().max() <= len(CLASS_NAMES)
