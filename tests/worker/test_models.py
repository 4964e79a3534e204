"""Models as jobs get them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.errors import Code, ServiceError
from contracts.generation import FilledCapture, FilledRequest
from tokenizers import Tokenizer
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

import ovam
from ovam.errors import InvalidArgumentError
from service.prompts import tokenized
from tests.families import FAMILIES, tiny_family
from tests.pipelines import tiny_text_encoder, tiny_tokenizer
from worker.cards import read_card, read_vocabulary
from worker.handlers.generate import require_short
from worker.models import Model, lent, load_model, warm


def loaded(family: str, folder: Path, dtype: torch.dtype = torch.float32) -> Model:
    tiny_family(family).save_pretrained(folder)
    return load_model("it", str(folder), device=torch.device("cpu"), dtype=dtype, default=True)


def drawn(pipeline: Any) -> np.ndarray:
    seed = torch.Generator().manual_seed(0)
    return np.asarray(pipeline("a cat", height=64, width=64, num_inference_steps=2, generator=seed).images[0]).astype(int)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_family_is_loaded_as_what_it_is_and_warmed(family: str, tmp_path: Path) -> None:
    model = loaded(family, tmp_path)
    assert type(model.pipeline) is FAMILIES[family].kind
    assert getattr(model.pipeline, "watermark", None) is None
    assert getattr(model.pipeline, "safety_checker", None) is None
    warm(model)
    with lent(model) as pipeline:
        assert pipeline.scheduler.config.prediction_type == FAMILIES[family].scheduler.get("prediction_type", "epsilon")


def test_a_lent_pipeline_has_the_models_weights_and_nothing_else_of_it(tmp_path: Path) -> None:
    model = loaded("sd1", tmp_path)
    before = dict(vars(model.pipeline))
    with lent(model, "PNDMScheduler") as one, lent(model) as other:
        assert one.unet is other.unet is model.pipeline.unet
        assert type(one.scheduler).__name__ == "PNDMScheduler"
        assert other.scheduler is not model.pipeline.scheduler
        drawn(one)
    assert vars(model.pipeline) == before


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")  # diffusers calls what it has deprecated
def test_after_an_error_while_an_image_is_decoded_the_next_one_is_as_ever(tmp_path: Path) -> None:
    model = loaded("sdxl", tmp_path, torch.float16)
    model.pipeline.vae.register_to_config(force_upcast=True)
    with lent(model) as pipeline:
        expected = drawn(pipeline)

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError

    failing = model.pipeline.vae.decoder.register_forward_pre_hook(no_memory)
    with pytest.raises(torch.OutOfMemoryError), lent(model) as pipeline:
        drawn(pipeline)
    failing.remove()
    assert model.pipeline.vae.dtype == torch.float16
    with lent(model) as pipeline:
        assert (drawn(pipeline) == expected).all()


def exclaiming(**options: Any) -> CLIPTokenizer:
    """A tokenizer that takes two exclamation marks for one token, as CLIP's does."""
    known = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    vocabulary = known["vocab"] | {"!!</w>": len(known["vocab"])}
    merges = [*(tuple(pair) for pair in known["merges"]), ("!", "!</w>")]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, **options)


def test_sdxls_prompts_are_measured_with_the_tokenizer_that_makes_most_of_them(tmp_path: Path) -> None:
    pipeline = tiny_family("sdxl")
    text = FAMILIES["sdxl"].text
    pipeline.tokenizer, pipeline.tokenizer_2 = exclaiming(), exclaiming(pad_token="!")
    pipeline.text_encoder = tiny_text_encoder(pipeline.tokenizer, **text)
    pipeline.text_encoder_2 = tiny_text_encoder(pipeline.tokenizer_2, CLIPTextModelWithProjection, **text)
    pipeline.save_pretrained(tmp_path)
    published = Tokenizer.from_str(read_vocabulary(str(tmp_path)))
    prompt = "cat " * 74 + "!!"
    assert [len(each(prompt)["input_ids"]) for each in (pipeline.tokenizer, pipeline.tokenizer_2)] == [77, 78]
    assert tokenized(published, prompt).length == 78

    capture = FilledCapture(self_attention=False)
    request = FilledRequest(
        prompt=prompt, model="it", seed=0, guidance_scale=5, height=64, width=64, scheduler="DDIMScheduler", capture=capture
    )
    with pytest.raises(ServiceError, match="prompt has 78 tokens") as caught:
        require_short(pipeline, read_card("it", str(tmp_path), default=True).max_tokens, request)
    assert caught.value.code is Code.PROMPT_TOO_LONG
    with pytest.raises(InvalidArgumentError, match=r"prompt is 'cat !!'; allowed: what both tokenizers cut alike"):
        ovam.encode(pipeline, "cat !!")


def test_two_tokenizers_with_different_vocabularies_are_refused(tmp_path: Path) -> None:
    pipeline = tiny_family("sdxl")
    pipeline.tokenizer_2 = exclaiming(pad_token="!")
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its two tokenizers have different vocabularies"):
        read_card("it", str(tmp_path), default=True)
