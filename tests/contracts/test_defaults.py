"""What is filled in where a request leaves something open is what the library would take."""

from contracts.schema.images import DDIM_STEPS, NOISE_TIMESTEPS
from contracts.schema.optimize import LEARNING_RATES
from ovam import real_images
from ovam.learning import optimization


def test_a_real_images_timesteps_and_steps_are_the_librarys() -> None:
    assert (NOISE_TIMESTEPS, DDIM_STEPS) == (real_images.TIMESTEPS, real_images.STEPS)


def test_an_optimisers_learning_rate_is_the_librarys() -> None:
    assert LEARNING_RATES == optimization._LEARNING_RATES
