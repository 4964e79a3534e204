"""Models as jobs get them."""

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

import ovam
from contracts.schema.errors import Code, ServiceError
from ovam.errors import InvalidArgumentError
from tests.families import FAMILIES, tiny_family
from tests.pipelines import tiny_text_encoder, tiny_tokenizer
from worker.cards import read_card, read_vocabulary
from worker.device import DeviceGate
from worker.models import Model, Models, chosen_device, chosen_dtype, lent, load_model, loader, warm


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


def test_a_model_that_comes_with_a_safety_checker_is_loaded_without_it(tmp_path: Path) -> None:
    tiny_family("sd1").save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    model = load_model("it", str(tmp_path), device=torch.device("cpu"), dtype=torch.float32, default=True)
    assert model.pipeline.safety_checker is None


def test_a_model_is_where_and_of_the_type_that_the_settings_say_and_draws_without_a_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_family("sd1").save_pretrained(tmp_path)
    model = load_model("it", str(tmp_path), device=torch.device("meta"), dtype=torch.bfloat16, default=True)
    assert {(each.device.type, each.dtype) for each in model.pipeline.unet.parameters()} == {("meta", torch.bfloat16)}
    model = load_model("it", str(tmp_path), device=torch.device("cpu"), dtype=torch.float32, default=True)
    capsys.readouterr()
    with lent(model) as pipeline:
        drawn(pipeline)
    assert capsys.readouterr().err == ""


def test_a_lent_pipeline_has_the_models_weights_and_nothing_else_of_it(tmp_path: Path) -> None:
    model = loaded("sd1", tmp_path)
    before = dict(vars(model.pipeline))
    with lent(model, "PNDMScheduler") as one, lent(model) as other:
        assert one.unet is other.unet is model.pipeline.unet
        assert type(one.scheduler).__name__ == "PNDMScheduler"
        one.scheduler.set_timesteps(5)
        assert len(one.scheduler.timesteps) == 6  # and none of Runge and Kutta's
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
    assert len(published.encode(prompt).ids) == 78
    with pytest.raises(InvalidArgumentError, match=r"prompt is 'cat !!'; allowed: what both tokenizers cut alike"):
        ovam.encode(pipeline, "cat !!")


def test_two_tokenizers_with_different_vocabularies_are_refused(tmp_path: Path) -> None:
    pipeline = tiny_family("sdxl")
    pipeline.tokenizer_2 = exclaiming(pad_token="!")
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its two tokenizers have different vocabularies"):
        read_card("it", str(tmp_path), default=True)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:63", "cuda:256", "cuda:99999999999999999999"])
def test_a_gpu_that_is_not_there_is_refused_and_the_others_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=rf"^OVAM_DEVICE={name}: .* \(GPUs: none that torch can use\); allowed: auto, cpu$"):
        chosen_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if name in ("cuda", "cuda:0"):
        assert chosen_device(name) == torch.device(name)
        return
    with pytest.raises(ValueError, match=r"\(GPUs: cuda:0 to cuda:1\)"):
        chosen_device(name)


def test_weights_are_half_as_wide_on_a_gpu_unless_a_setting_says() -> None:
    assert (chosen_dtype("auto", torch.device("cpu")), chosen_dtype("auto", torch.device("cuda"))) == (
        torch.float32,
        torch.float16,
    )
    assert chosen_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


def models_of(gate: DeviceGate, most: int, read: list[str], dropped: list[str]) -> Models:
    def load(name: str, source: str) -> Model:
        read.append(name)
        if source == "bad":
            raise RuntimeError("secret")
        if source == "huge":
            raise MemoryError
        if source == "inpainting":
            raise ServiceError(Code.MODEL_FAILED_TO_LOAD, "needs a mask", field="model")
        if source == "gone":
            raise OSError("'gone' is not in the cache")
        return Model(SimpleNamespace(name=name), None, torch.device("cpu"))

    sources = {name: name for name in ("a", "b", "c", "bad", "gone", "huge", "inpainting")}
    return Models(sources, load, gate, most=most, dropped=dropped.append)


async def test_the_least_recently_used_model_is_dropped_and_loaded_again_when_it_is_asked_for() -> None:
    read, dropped = [], []
    with DeviceGate.open() as gate:
        models = models_of(gate, 2, read, dropped)
        for name in ("a", "b", "a", "c", "a", "b"):
            await models.get(name)
    assert (read, dropped, models.loaded) == (["a", "b", "c", "b"], ["b", "c"], ["a", "b"])


async def test_a_model_is_loaded_when_nothing_else_works_with_tensors() -> None:
    threads: list[str] = []

    def load(name: str, _: str) -> Model:
        threads.append(threading.current_thread().name)
        return Model(SimpleNamespace(name=name), None, torch.device("cpu"))

    with DeviceGate.open() as gate:
        await Models({"a": "a"}, load, gate, most=1, dropped=threads.append).get("a")
    assert threads == ["device"]


async def test_two_jobs_that_ask_for_a_model_at_once_load_it_once() -> None:
    read: list[str] = []
    with DeviceGate.open() as gate:
        models = models_of(gate, 2, read, [])
        one, other = await asyncio.gather(models.get("a"), models.get("a"))
    assert one is other
    assert read == ["a"]


async def test_why_a_model_does_not_load_is_told_if_files_are_missing_and_logged_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with DeviceGate.open() as gate:
        models = models_of(gate, 2, [], [])
        with pytest.raises(ServiceError, match=r"^model 'gone': 'gone' is not in the cache$") as gone:
            await models.get("gone")
        assert caplog.records == []
        with pytest.raises(ServiceError, match=r"^model 'bad' does not load from 'bad' \(RuntimeError\)$") as bad:
            await models.get("bad")
        with pytest.raises(ServiceError, match=r"^needs a mask$"):  # which says all there is to say
            await models.get("inpainting")
        with pytest.raises(MemoryError):  # which is not the model's fault
            await models.get("huge")
    assert "secret" in caplog.text
    assert {gone.value.code, bad.value.code} == {Code.MODEL_FAILED_TO_LOAD}


@pytest.mark.parametrize("default", ["it", "another"])
def test_a_loaded_model_knows_whether_it_is_the_default(tmp_path: Path, default: str) -> None:
    tiny_family("sd1").save_pretrained(tmp_path)
    model = loader(torch.device("cpu"), torch.float32, default)("it", str(tmp_path))
    assert model.card.default == (default == "it")
