"""What a worker says of a model, from its configuration files alone."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

import ovam
from contracts.rules.capabilities import kept_blocks
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import CaptureOptions
from contracts.schema.models import BestMethod
from contracts.settings import BadSettingsError
from tests.diffusion_transformers import tiny_transformer
from tests.families import generate, tiny_family
from worker.cards import read_card, read_vocabulary
from worker.models import load_model
from worker.pipelines import pipeline_of
from worker.presence import read_offers
from worker.settings import BUNDLED

FAMILIES = {"sd1": (32, 7.5), "sd2": (32, 7.5), "sdxl": (64, 5.0)}
every_family = pytest.mark.parametrize("family", FAMILIES)


def saved(family: str, folder: Path, **unet: object) -> str:
    tiny_family(family, **unet).save_pretrained(folder)
    return str(folder)


@every_family
def test_a_card_describes_what_a_family_takes(family: str, tmp_path: Path) -> None:
    card = read_card("it", saved(family, tmp_path), default=True)
    assert (card.family, card.text_width, card.default_guidance_scale) == (family, *FAMILIES[family])
    assert (card.max_tokens, card.default_height, card.default_width, card.size_multiple) == (77, 64, 64, 32)
    assert (card.default_scheduler, card.schedulers[0], card.guidance_embedded) == ("DDIMScheduler", "DDIMScheduler", False)
    with_scipy = find_spec("scipy") is not None  # which one scheduler needs
    assert len(card.schedulers) == len(set(card.schedulers)) == 12 + with_scipy


TRANSFORMERS = {  # width of text, tokens, layers of CLIP, side, multiple, guidance; grid and number of blocks; four sizes
    "pixart": ((32, 300, 0, 64, 16, False), (4, 3), (8, 4, 1, 300)),
    "sana": ((16, 300, 0, 64, 32, False), (32, 2), (2, 16, 0, 300)),
    "sd3.5": ((64, 77, 1, 128, 16, False), (8, 4), (8, 4, 1, 77 + 256)),
    "flux": ((32, 512, 0, 1024, 16, True), (64, 6), (8, 8, 1, 512)),
    "flux2-klein": ((48, 512 - 3, 0, 1024, 16, False), (64, 6), (8, 8, 1, 512)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_card_describes_a_transformer(name: str, tmp_path: Path) -> None:
    (width, tokens, layers, side, multiple, embedded), (grid, blocks), expected = TRANSFORMERS[name]
    tiny_transformer(name).save_pretrained(tmp_path)
    card = read_card("it", str(tmp_path), default=True)
    assert (card.text_width, card.max_tokens, card.max_clip_skip, card.guidance_embedded) == (width, tokens, layers, embedded)
    assert (card.default_height, card.default_width, card.size_multiple) == (side, side, multiple)
    assert [block.grid for block in card.blocks] == [(grid, grid)] * blocks
    sizes = card.sizes
    assert sizes is not None
    assert (sizes.latent_factor, sizes.unet_channels, sizes.self_attention_level, sizes.text_rows) == expected


@every_family
@pytest.mark.parametrize("size", [(64, 64), (128, 96), (32, 256)])
def test_a_cards_blocks_are_those_of_a_trace_at_any_size(family: str, size: tuple[int, int], tmp_path: Path) -> None:
    pipeline = tiny_family(family)
    card = read_card("it", saved(family, tmp_path), default=True)
    for mid_block in (False, True):
        with ovam.capture(pipeline, mid_block=mid_block) as traces:
            generate(pipeline, family, size=size)
        expected = [(block.name, block.grid, block.heads) for block in traces[0].blocks]
        kept = kept_blocks(CaptureOptions(mid_block=mid_block), card, size)
        assert [(block.name, block.grid, block.heads) for block in kept] == expected


def test_a_model_says_of_itself_what_its_parts_cannot(tmp_path: Path) -> None:
    source = saved("sd1", tmp_path)
    (tmp_path / "ovam.json").write_text(json.dumps({"default_self_attention": True, "default_guidance_scale": 2.5}))
    card = read_card("it", source, default=False)
    assert (card.default_self_attention, card.default_guidance_scale) == (True, 2.5)


def test_the_vocabulary_of_a_model_with_two_tokenizers_is_that_of_the_second(tmp_path: Path) -> None:
    source = saved("sdxl", tmp_path)
    one, two = (CLIPTokenizer.from_pretrained(source, subfolder=part)("cat!").input_ids for part in ("tokenizer", "tokenizer_2"))
    assert one != two == Tokenizer.from_str(read_vocabulary(source)).encode("cat!").ids


def test_the_bundled_models_best_settings_are_its_own() -> None:
    card, told = read_card("world", str(BUNDLED), default=True), json.loads((BUNDLED / "ovam.json").read_text())
    for kind in ("word_defaults", "token_defaults"):
        assert getattr(card, kind) == BestMethod.model_validate(told[kind])
        assert getattr(card, kind).settings.changes()
    assert (card.default_self_attention, card.default_guidance_scale) == (True, told["default_guidance_scale"])


@pytest.mark.parametrize("extras", ['{"word_defaults": {"method": "daan"}}', '{"word_defaults": {"settings": {"tau": 1}}}', "{"])
def test_a_model_whose_own_file_is_wrong_is_not_offered(tmp_path: Path, extras: str, caplog: pytest.LogCaptureFixture) -> None:
    source = saved("sd1", tmp_path)
    (tmp_path / "ovam.json").write_text(extras)
    assert read_offers({"it": source}, "another") == []
    assert "not offered: model 'it'" in caplog.text


def test_an_older_configuration_means_its_class_defaults(tmp_path: Path) -> None:
    source = saved("sd1", tmp_path)
    place = tmp_path / "unet" / "config.json"
    known = json.loads(place.read_text())
    place.write_text(
        json.dumps({name: known[name] for name in known if name not in ("use_linear_projection", "time_cond_proj_dim")})
    )
    assert read_card("it", source, default=False).family == "sd1"


def test_a_model_that_is_told_its_guidance_says_so_and_that_nothing_is_guided_away_from(tmp_path: Path) -> None:
    card = read_card("it", saved("sd1", tmp_path, time_cond_proj_dim=16), default=False)
    assert card.guidance_embedded
    assert "guidance is an input" in card.cannot["negative_prompt"]
    assert "negative_prompt" not in read_card("it", saved("sd1", tmp_path / "plain"), default=False).cannot


def test_a_latent_consistency_model_is_drawn_as_its_own_pipeline_draws_it(tmp_path: Path) -> None:
    own = LatentConsistencyModelPipeline(
        **tiny_family("sd1", "lcm", time_cond_proj_dim=16).components, requires_safety_checker=False
    )
    own.save_pretrained(tmp_path)
    model = load_model("it", str(tmp_path), device=torch.device("cpu"), dtype=torch.float32, default=True)
    assert (model.card.family, model.card.guidance_embedded, model.card.default_guidance_scale) == ("sd1", True, 8.5)
    drawn = [
        pipeline("a cat", num_inference_steps=3, guidance_scale=6.0, height=64, width=64, output_type="np",
                 generator=torch.Generator().manual_seed(1)).images
        for pipeline in (own, model.pipeline)
    ]  # fmt: skip
    assert np.array_equal(*drawn)
    pipeline_of(model.pipeline, "image")  # it starts from images, too


@pytest.mark.parametrize("family", ["img2img", "inpaint", "controlnet", "sdxl-img2img"])
def test_a_pipeline_that_needs_more_than_a_prompt_is_refused_by_its_name(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = saved(family, tmp_path)
    kind = type(tiny_family(family)).__name__
    with pytest.raises(
        ServiceError, match=rf"is a {kind}; allowed: StableDiffusionPipeline, StableDiffusionXLPipeline"
    ) as caught:
        read_card("it", source, default=False)
    assert caught.value.code is Code.MODEL_FAILED_TO_LOAD
    assert read_offers({"it": source}, "another") == []
    assert kind in caplog.text
    with pytest.raises(BadSettingsError, match=rf"^OVAM_MODELS: model 'it' .* is a {kind}"):
        read_offers({"it": source}, "it")


def test_a_unet_that_draws_from_more_than_latents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="takes 9 channels; allowed: the 4 of its latents"):
        read_card("it", saved("sd1", tmp_path, in_channels=9), default=False)


def test_a_folder_that_lacks_a_part_is_not_offered_and_others_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = saved("sd1", tmp_path / "good"), saved("sd2", tmp_path / "bad")
    (tmp_path / "bad" / "unet" / "config.json").unlink()
    assert [offer.card.name for offer in read_offers({"bad": bad, "good": good}, "good")] == ["good"]
    assert "not offered: model 'bad': " in caplog.text


def test_a_card_says_whether_diffusers_paints_inside_masks(tmp_path: Path) -> None:
    (offer,) = read_offers({"world": str(BUNDLED)}, "world")
    assert "latents of 4 channels alone" in offer.card.cannot["mask"]  # the bundled model's have 12
    assert "mask" not in offer.card.can
    assert read_card("it", saved("sd1", tmp_path), default=False).cannot == {}
