"""One tiny pipeline and one generation, shared by the tests that only read them."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

import ovam
from tests.pipelines import tiny_pipeline


@pytest.fixture(scope="session")
def pipeline() -> StableDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="session")
def trace(pipeline: StableDiffusionPipeline) -> ovam.Trace:
    """The trace of a 64x96 image, three evaluations."""
    with ovam.capture(pipeline) as traces:
        pipeline(
            "a photograph of a cat",
            height=64,
            width=96,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )
    return traces[0]
