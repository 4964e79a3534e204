"""The image that is expected from one evaluation, by the noise that diffusers' schedulers add."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from ovam.tracing.prediction import KINDS, Prediction

LATENTS, NOISE, PULL = torch.randn(3, 2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
"""Of two images."""


def predicted(kind: str, step: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A pipeline, its noisy latents at a timestep, and what a perfect UNet predicts from them."""
    scheduler, steps = DDIMScheduler(prediction_type=kind), torch.full((2,), step)
    velocity = scheduler.get_velocity(LATENTS, NOISE, steps)
    outputs = {"epsilon": NOISE, "v_prediction": velocity, "sample": LATENTS}
    pipeline = SimpleNamespace(scheduler=scheduler, guidance_scale=3.0)
    return pipeline, scheduler.add_noise(LATENTS, NOISE, steps), outputs[kind]


@pytest.mark.parametrize("step", [0, 500, 999])
@pytest.mark.parametrize("kind", KINDS)
def test_a_latent_without_its_noise_is_what_it_was_with_guidance_and_without(kind: str, step: int) -> None:
    pipeline, noisy, output = predicted(kind, step)
    alone = Prediction(noisy, step, output).latents(pipeline, 2)
    with_masks = torch.cat([noisy, torch.ones(2, 5, 3, 5)], dim=1)  # of an inpainting model
    halves = torch.cat([output - 3 * PULL, output - 2 * PULL])  # which guidance of 3 brings together
    guided = Prediction(torch.cat([with_masks * 0, with_masks]), torch.tensor([step]), halves).latents(pipeline, 2)
    for found in (alone, guided):
        assert found is not None
        torch.testing.assert_close(found, LATENTS, rtol=1e-3, atol=1e-3)


def test_a_timestep_beyond_the_schedule_is_its_last() -> None:
    pipeline, noisy, output = predicted("epsilon", 999)
    last, beyond = (Prediction(noisy, step, output).latents(pipeline, 2) for step in (999, 1004.6))
    assert last is not None
    assert beyond is not None
    assert torch.equal(last, beyond)


def test_nothing_is_expected_where_the_share_of_noise_is_not_known() -> None:
    pipeline, noisy, output = predicted("epsilon", 500)
    flow = SimpleNamespace(scheduler=FlowMatchEulerDiscreteScheduler(), guidance_scale=3.0)
    assert Prediction(noisy, 500, output).latents(flow, 2) is None
    assert Prediction(noisy, 500).latents(pipeline, 2) is None
    assert Prediction(noisy, 500, torch.cat([output, output], dim=1)).latents(pipeline, 2) is None, "a variance, too"
