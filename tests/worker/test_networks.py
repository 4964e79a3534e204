"""Attribution by a trained network: features from a replay, the answer in the same form, and what is refused."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree

import pytest
import torch

import ovam
from contracts.schema.attribute import AttributeResult
from contracts.schema.errors import Code
from contracts.schema.images import CaptureOptions
from contracts.schema.jobs import State
from ovam.core.methods import METHODS
from ovam.core.selection import FeatureChoice
from ovam.tracing.features import feature_blocks
from ovam.trained.grounded_diffusion import GroundedDiffusionSizes
from ovam.trained.networks import FOLDER, Card, Network
from ovam.trained.pyramid import pyramid
from tests.pipelines import TEXT_WIDTH, tiny_pipeline
from tests.worker.client import Client
from tests.worker.jobs import CAT, DOG
from worker.cards import networks_in

NETWORK = {"method": "grounded-diffusion"}
pytestmark = pytest.mark.usefixtures("networks", "worker")


@pytest.fixture(scope="module")
def networks(model_folder: Path) -> Iterator[Path]:
    """An untrained network beside the tiny model."""
    pipeline = tiny_pipeline("ddim")
    with ovam.capture(pipeline, features=FeatureChoice()) as traces:
        pipeline("a cat", num_inference_steps=1, output_type="latent")
    blocks = tuple(feature_blocks(pipeline.unet))
    channels = tuple(level.shape[0] for level in pyramid(traces[0], blocks))
    sizes = GroundedDiffusionSizes(channels, TEXT_WIDTH, widths=(4, 4, 8), embedding=16, heads=2)
    torch.manual_seed(0)
    folder = model_folder / FOLDER
    Network.new(Card("grounded-diffusion", asdict(sizes), blocks), traces[0]).save(folder / "grounded-diffusion.safetensors")
    yield folder
    rmtree(folder)


async def test_a_network_answers_from_a_replay_and_again_from_memory(client: Client, model_folder: Path) -> None:
    assert networks_in(str(model_folder)) == ["grounded-diffusion"]
    source = await client.generated()
    plain = await client.attributed(source, CAT, method="daam")  # whose trace, in memory, has no features
    answers = [await client.attributed(source, CAT, DOG, **NETWORK) for _ in range(2)]
    for record in answers:
        assert isinstance(record.result, AttributeResult), record.error
        assert [segment.settings for segment in record.result.segments] == [METHODS["grounded-diffusion"].words] * 2
    assert answers[0].result.segments[0].rle == answers[1].result.segments[0].rle
    assert plain.result.segments[0].settings.network is None


async def test_targets_of_a_generation_may_be_found_by_a_network(client: Client) -> None:
    source = await client.generated()
    job = client.generation()
    asked = (await client.attribution(source, CAT, **NETWORK)).targets
    record = await client.run(job.model_copy(update={"targets": asked}))
    assert record.state is State.SUCCEEDED, record.error
    later = await client.attributed(record, CAT, **NETWORK)
    assert record.result.images[0].segments[0].rle == later.result.segments[0].rle


async def test_stored_queries_have_no_features_and_a_missing_network_is_named(client: Client) -> None:
    stored = await client.generated(capture=CaptureOptions(keep="queries"))
    failed = await client.attributed(stored, CAT, **NETWORK)
    assert (failed.state, failed.error.code) == (State.FAILED, Code.TRACE_UNREADABLE)
    source = await client.generated()
    failed = await client.attributed(source, CAT, method="datasetdm")
    assert (failed.state, failed.error.code) == (State.FAILED, Code.NO_NETWORK)
    assert "it has: grounded-diffusion" in failed.error.detail
