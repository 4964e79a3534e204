"""The measures of real images and of probing, on one image each."""

from collections import defaultdict

import numpy as np
import pytest

from experiments import probing, real_images
from experiments.bundled import bundle


def test_every_way_to_trace_a_real_image_is_measured_once() -> None:
    scores = dict(real_images.measured(bundle(), 4, bundle().world.vocabulary[4].name))
    ways = len(real_images.SETS) + len(real_images.PATHS)
    assert len(scores) == 4 * ways + 1
    assert all(0 < iou <= 1 for iou in scores.values())
    rows = real_images.table({choice: [iou] for choice, iou in scores.items()}).splitlines()
    assert len(rows) == 2 + ways + 1
    assert {row.count("|") for row in rows} == {6}


def test_places_are_pixels_of_their_thing_and_a_table_has_a_row_a_prompt_and_order() -> None:
    thing = np.zeros((64, 64), bool)
    thing[10:30, 40:60] = True
    found = probing.places(thing, np.random.default_rng(0))
    assert len(found) == probing.PLACES
    assert all(40 <= x < 60 and 10 <= y < 30 for x, y in found)
    assert probing.places(thing & False, np.random.default_rng(0)) == []
    keys = [("which", template, order) for template in probing.TEMPLATES for order in probing.ORDERS]
    hits = defaultdict(list, {each: [True, False] for each in keys})
    assert probing.table(hits).count("0.500") == len(keys)


def test_pairs_of_classes_are_few_however_many_classes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(bundle()), "generate", lambda self, prompt, seed: (prompt, seed))  # noqa: ARG005
    prompts = [image for names, image, _ in probing.scenes(bundle(), 1) if len(names) == 2]
    assert 0 < len(prompts) <= probing.PAIRS
    assert all(" and " in prompt for prompt in prompts)
