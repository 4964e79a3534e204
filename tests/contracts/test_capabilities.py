"""What a request is filled with by its model, and what a job of it takes."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.rules.capabilities import filled_capture, image_job
from contracts.rules.estimates import drawing, is_refined, trace_numbers
from contracts.schema.attribute import AttributeRequest
from contracts.schema.estimates import ModelSizes
from contracts.schema.images import BlockInfo, CaptureOptions, ImageOptions, Upload
from contracts.schema.tokens import ImportRequest
from ovam.core.methods import ByAffinity, Method
from ovam.core.thresholds import Absolute, Share
from tests.contracts.test_targets import MODEL
from tests.worker.jobs import generation

CARD = MODEL.model_copy(
    update={
        "schedulers": ["DDIMScheduler", "PNDMScheduler"],
        "default_scheduler": "PNDMScheduler",
        "blocks": [BlockInfo(name="up_blocks.1", grid=(1, 1), heads=2)],
    }
)
SIZES = ModelSizes(
    parameters=100, latent_factor=8, unet_channels=4, vae_channels=2, channels={"up_blocks.1": 6}, self_attention={"a": 5, "b": 7}
)
UPLOAD = Upload(media_type="image/png", size=1, sha256="0" * 64, height=8, width=8)


def test_the_models_scheduler_is_its_default_wherever_that_is_listed() -> None:
    assert generation(CARD).scheduler == "PNDMScheduler"
    assert generation(CARD, scheduler="DDIMScheduler").scheduler == "DDIMScheduler"


@pytest.mark.parametrize(
    ("options", "steps", "timesteps"),
    [
        ({"inversion": "ddim"}, 30, None),
        ({"inversion": "ddim", "num_inference_steps": 7}, 7, None),
        ({}, None, [*range(900, 0, -100)]),
        ({"timesteps": [5, 9]}, None, [5, 9]),
    ],
)
def test_a_real_image_has_the_steps_of_its_request_or_the_usual_ones(
    options: dict[str, Any], steps: int | None, timesteps: list[int] | None
) -> None:
    job = image_job(ImageOptions(**options), UPLOAD, (8, 8), CARD)
    assert (job.num_inference_steps, job.timesteps) == (steps, timesteps)


def test_the_worst_moment_of_drawing_is_the_larger_of_the_unets_and_the_decoders() -> None:
    assert drawing(CARD, SIZES, (8, 8), images=1, rows=1) == 8 * 8 * 2 * 8 * 4, "the decoder's maps, in single precision"
    assert drawing(CARD, SIZES, (8, 8), images=1, rows=100) == 100 * 4 * 24 * 4, "the UNet's, of one latent pixel a row"


def test_a_trace_with_self_attention_has_its_queries_and_keys_too() -> None:
    plain = filled_capture(CaptureOptions(evaluations=[0, 1], keep="queries", self_attention=False), CARD)
    pixels = plain.model_copy(update={"self_attention": True})
    assert trace_numbers(plain, CARD, SIZES, (16, 8), 5) == 2 * (2 * 6)
    assert trace_numbers(pixels, CARD, SIZES, (16, 8), 5) == 2 * (2 * 6 + 2 * 2 * (5 + 7))


def test_what_the_threshold_cuts_is_kept_where_it_is_not_the_heatmap() -> None:
    level, stretched = Absolute(0.5), Share(0.5, "minmax")
    found = [is_refined(method) for method in (Method(threshold=level), Method(threshold=stretched), Method(refine=ByAffinity()))]
    assert found == [False, True, True]


def test_what_is_no_name_of_a_method_is_refused_as_an_unknown_one_is() -> None:
    for method in (["daam"], {"daam": 1}, "dam"):
        with pytest.raises(ValidationError):
            AttributeRequest.model_validate({"job_id": "0" * 26, "targets": [{"word": "cat"}], "method": method})


def test_names_of_classes_are_for_a_file_without_any() -> None:
    assert ImportRequest(file="QUJD", format="npy", name="a", classes=["cat"]).classes == ["cat"]
    with pytest.raises(ValidationError, match="`classes` belong to format 'npy'"):
        ImportRequest(file="QUJD", format="safetensors", name="a", classes=["cat"])
