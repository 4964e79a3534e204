"""Every family's pipeline is called in one way, and tells of its steps whatever it calls that."""

from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionImg2ImgPipeline

from ovam.tracing.model import Pipeline
from tests.diffusion_transformers import tiny_transformer
from tests.families import tiny_family
from worker.calling import called, steps_of


def from_an_image() -> Any:
    return StableDiffusionImg2ImgPipeline(**tiny_family("sd1").components, requires_safety_checker=False)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
@pytest.mark.parametrize(
    ("pipeline", "more", "steps"),
    [
        (lambda: tiny_transformer("pixart"), {"height": 64, "width": 64}, 4),
        (from_an_image, {"image": np.zeros((1, 64, 64, 3)), "strength": 0.5}, 2),
    ],
    ids=["plainly", "fewer than asked for"],
)
def test_a_pipeline_tells_of_each_step_that_it_makes(pipeline: Any, more: dict[str, Any], steps: int) -> None:
    made, seen = pipeline(), list[tuple[Pipeline, int, int]]()
    options = {"prompt": "a cat", "num_inference_steps": 4, "output_type": "latent"} | more
    called(made, step_ended=lambda running, step: seen.append((running, step, steps_of(running))), **options)
    assert seen == [(made, step, steps) for step in range(steps)]
