"""The measures of real images and of probing, on one image each."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from experiments import probing, real_images
from experiments.tinyworld.shapes import CLASS_NAMES

MODEL = Path(__file__).parents[2] / "models" / "tiny"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_every_way_to_look_at_a_real_image_is_measured_once(pipeline: StableDiffusionPipeline) -> None:
    scores = dict(real_images.measured(pipeline, 4, "car"))
    ways = len(real_images.SETS) + len(real_images.PATHS)
    assert len(scores) == 4 * ways + 1
    assert all(0 < iou <= 1 for iou in scores.values())
    rows = real_images.table({choice: [iou] for choice, iou in scores.items()}).splitlines()
    assert len(rows) == 2 + ways + 1
    assert {row.count("|") for row in rows} == {6}


def test_places_are_pixels_of_their_class_and_a_table_has_a_row_a_prompt_and_order() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 40:60] = CLASS_NAMES.index("fish") + 1
    found = probing.places(labels, "fish", np.random.default_rng(0))
    assert len(found) == probing.PLACES
    assert all(40 <= x < 60 and 10 <= y < 30 for x, y in found)
    assert probing.places(labels, "car", np.random.default_rng(0)) == []
    asked = [("which", template, order) for template in probing.TEMPLATES for order in probing.ORDERS]
    hits = defaultdict(list, {each: [True, False] for each in asked})
    assert probing.table(hits).count("0.500") == len(asked)
