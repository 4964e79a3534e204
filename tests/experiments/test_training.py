"""The training of the bundled model: whole, resumable, and blind to masks."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

import ovam
from experiments.tinyworld import data, denoiser, text, train, vae
from experiments.tinyworld.captions import caption
from experiments.tinyworld.scene import sample
from experiments.tinyworld.training import Progress, Training, launch


def test_a_training_goes_on_where_it_was_put_down(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)

    def begin() -> Training:
        return Training.begin([model], tmp_path / "a.pt", budget=60, learning_rate=1e-2, decay_from=0.5)

    training = begin()
    for _ in range(5):
        training.advance(model(torch.ones(4, 3)).square().mean(), 4)
    training.save()
    weights, average = model.weight.detach().clone(), [value.clone() for value in training.average.values]
    model.weight.data.zero_()
    again = begin()
    assert model.weight.equal(weights)
    assert all(torch.equal(one, other) for one, other in zip(again.average.values, average, strict=True))
    assert (again.step, again.progress.samples) == (5, 20)
    assert again.progress.elapsed == pytest.approx(training.progress.elapsed)


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    rates = [Progress(100, elapsed=seconds).learning_rate(1.0, decay_from=0.4) for seconds in (0, 1, 20, 40, 70, 100)]
    assert rates[0] < 0.1
    assert rates[1:4] == [1.0, 1.0, 1.0]
    assert 0.4 < rates[4] < 0.6
    assert rates[5] == pytest.approx(0.01)


def test_every_stage_from_nothing_makes_a_pipeline_whose_attention_can_be_captured(tmp_path: Path) -> None:
    launch(data.render_shard, 1, 0, tmp_path, 0, 64, data.RECIPES["crowded"])
    text.new_tokenizer(caption for captions in data.captions(tmp_path) for caption in captions).save_pretrained(
        tmp_path / "tokenizer"
    )
    launch(vae.train, 1, 0, tmp_path, 1.0, 4)
    launch(vae.encode_all, 1, 0, tmp_path)
    launch(denoiser.train, 1, 0, tmp_path, 1.0, 4, tmp_path / "model")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    with ovam.capture(pipeline) as traces:
        image = pipeline("a photograph of a car", num_inference_steps=2).images[0]
    assert image.size == (64, 64)
    assert {block.grid for block in traces[0].blocks} == {(16, 16), (8, 8), (4, 4)}


def test_a_training_can_go_on_from_a_pipeline() -> None:
    tokenizer = CLIPTokenizer.from_pretrained("models/tiny/tokenizer")
    unet, encoder = denoiser.initial_models(tokenizer, Path("models/tiny"))
    assert unet.training
    assert encoder.training
    assert {parameter.dtype for model in (unet, encoder) for parameter in model.parameters()} == {torch.float32}


def test_captions_may_leave_out_some_of_several_things_but_not_all() -> None:
    rng = np.random.default_rng(0)
    left = set()
    for seed in range(20):
        scene = sample(np.random.default_rng(seed), shares=(0.0, 0.0, 1.0))
        silent, whole = caption(rng, scene, silence=1.0), caption(rng, scene)
        assert ", " in whole
        assert ", " not in silent
        left.add(" and " in silent)
    assert left == {True, False}


def test_coarse_cross_attention_can_be_dropped_while_the_fine_one_stays() -> None:
    unet = denoiser.new_unet().eval()
    told = {name: [] for name, module in unet.named_modules() if name.endswith("attn2")}
    denoiser.drop_coarse_attention(unet, 1.0)
    for name, module in unet.named_modules():
        if name in told:
            module.register_forward_hook(lambda _, __, output, name=name: told[name].append(float(output.abs().sum())))
    with torch.no_grad():
        unet(torch.randn(1, 4, 16, 16), 500, torch.randn(1, 77, text.WIDTH))
    fine = {name for name, (heard,) in told.items() if heard > 0}
    assert fine == {name for name in told if name.startswith(("down_blocks.0", "up_blocks.2"))}


def test_end_and_padding_can_be_hidden_from_cross_attention() -> None:
    tokenizer = CLIPTokenizer.from_pretrained("models/tiny/tokenizer")
    ids = tokenizer(["a photo of a car", ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    words = denoiser.attended(ids, 1.0)
    assert words.sum(dim=1).tolist() == [6, 1]
    assert tokenizer.decode(ids[0][words[0]], skip_special_tokens=True).strip() == "a photo of a car"
    assert denoiser.attended(ids, 0.0).all()


def test_no_mask_can_reach_the_training_of_the_pipeline() -> None:
    for module in (data, denoiser, text, train, vae):
        source = inspect.getsource(module)
        assert ".labels(" not in source
        assert ".things" not in source
        assert "annotator" not in source
