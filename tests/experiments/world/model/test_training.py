"""The bundled model's training at tiny size: it learns, is put down and taken up again, and refuses what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import nn

from experiments.world.model import autoencoder, autoencoder_training, data, denoiser
from experiments.world.model.muon import orthogonalised
from experiments.world.model.text import LENGTH, new_text_encoder, new_tokenizer
from experiments.world.model.training import CheckpointError, Plan, Progress, Training

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of a few scenes with latents of an untrained autoencoder."""
    folder = tmp_path_factory.mktemp("world")
    data.render_shard(0, 1, folder, 0, COUNT, "start")
    new_tokenizer().save_pretrained(folder / "tokenizer")
    autoencoder.new_vae().save_pretrained(folder / "vae")
    autoencoder_training.encode_all(0, 1, folder)
    return folder


def take_steps(folder: Path, checkpoint: Path, steps: int, marks: dict[str, str] | None = None) -> Training:
    """A small network trained that many steps further than its checkpoint is, on fixed data and a stopped clock."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.LazyLinear(4))
    image = torch.from_numpy(np.array(data.images(folder)[:4, ::16, ::16])).permute(0, 3, 1, 2) / 255.0
    network(image)
    training = Training.begin([network], checkpoint, Plan(1e9, decay_from=0.5), marks)
    for _ in range(steps):
        training.advance(network(image).square().mean(), 4)
        training.progress.elapsed = 1e8 * training.step
    return training


def test_a_training_that_was_interrupted_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    straight = take_steps(folder, tmp_path / "none.pt", 6)
    take_steps(folder, tmp_path / "some.pt", 3).save()
    resumed = take_steps(folder, tmp_path / "some.pt", 3)
    assert resumed.step == 6
    for a, b in zip(straight.parameters, resumed.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)  # sums in another order; a step is 1e-3
    for a, b in zip(straight.average.values, resumed.average.values, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_damaged_checkpoint_is_refused_plainly(folder: Path, tmp_path: Path) -> None:
    take_steps(folder, tmp_path / "x.pt", 1).save()
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        take_steps(folder, tmp_path / "x.pt", 1)


def test_a_checkpoint_of_another_atlas_is_refused_and_both_versions_are_said(folder: Path, tmp_path: Path) -> None:
    take_steps(folder, tmp_path / "x.pt", 1, {"atlas": "old"}).save()
    with pytest.raises(CheckpointError, match="atlas old, here it is new"):
        take_steps(folder, tmp_path / "x.pt", 1, {"atlas": "new"})


def test_a_set_drawn_from_another_atlas_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps({"atlas": "of long ago"}))
    with pytest.raises(data.DatasetError, match="of long ago"):
        data.marks(tmp_path)


def test_muon_gives_matrices_whose_singular_values_are_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(24, 90)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_the_learning_rate_warms_up_holds_and_falls_to_a_hundredth() -> None:
    shares = [Progress(100, elapsed=elapsed).share_of_peak(0.5) for elapsed in (0, 1, 50, 75, 100)]
    assert shares == pytest.approx([0.02, 1, 1, 0.5, 0.01], abs=1e-6)


def test_the_autoencoder_learns(folder: Path) -> None:
    torch.manual_seed(0)
    vae, rng = autoencoder.new_vae(), np.random.default_rng(0)
    training = Training.begin([vae], folder / "never.pt", Plan(1e9, muon=False))
    training.progress.elapsed = 1e8
    losses = []
    for _ in range(12):
        value, squared = autoencoder.loss(vae, autoencoder.pixels(autoencoder_training.crops(data.images(folder), rng, 4, 32)))
        training.advance(value, 4)
        losses.append(squared.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_folding_the_latents_scale_into_the_autoencoder_leaves_its_pictures_as_they_are(folder: Path) -> None:
    torch.manual_seed(0)
    vae, images = autoencoder.new_vae(), np.array(data.images(folder))
    before = autoencoder.measured(vae, images[:4])
    autoencoder.standardise(vae, np.repeat(images, 6, axis=0))
    assert autoencoder.measured(vae, images[:4]) == pytest.approx(before, abs=0.02)
    latents = vae.encode(autoencoder.pixels(images)).latent_dist.mean.detach()
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert latents.square().mean() == pytest.approx(1, abs=0.02)


def test_end_and_padding_are_hidden_for_a_fraction_of_the_captions() -> None:
    ids = torch.tensor([[5, 7, 8, 9, 9, 9]] * 100)
    kept = denoiser.attended(ids, 0.5).sum(dim=1)
    assert set(kept.tolist()) == {3, 6}
    assert denoiser.attended(ids, 1.0).sum(dim=1).tolist() == [3] * 100


def test_training_writes_a_pipeline_that_draws_and_goes_on_from_its_checkpoint(folder: Path, tmp_path: Path) -> None:
    plan = Plan(1e-9)
    denoiser.train(0, 1, folder, plan, 2, tmp_path / "model")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a cat on the grass", num_inference_steps=1, output_type="np").images
    assert image.shape == (1, 128, 128, 3)
    assert isinstance(pipeline.vae, AutoencoderKL)
    assert pipeline.tokenizer.model_max_length == LENGTH
    assert max(file.stat().st_size for file in (tmp_path / "model").rglob("*")) <= 16 * 2**20
    sizes = [p.numel() for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in part.parameters()]
    assert sum(sizes) <= 24e6
    step = torch.load(folder / "denoiser.pt", weights_only=True)["step"]
    denoiser.train(0, 1, folder, plan, 2, tmp_path / "model")  # the budget is used up: nothing more to do
    assert torch.load(folder / "denoiser.pt", weights_only=True)["step"] == step


def test_further_training_of_the_decoder_leaves_the_latents_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder_training, "MEASURED", 1)
    image = autoencoder.pixels(np.array(data.images(folder)[:2]))
    before = AutoencoderKL.from_pretrained(folder / "vae")
    autoencoder_training.sharpen(0, 1, folder, Plan(1e-9), autoencoder_training.Crops(batch=2, widen_at=2))
    after = AutoencoderKL.from_pretrained(folder / "vae")
    torch.testing.assert_close(before.encode(image).latent_dist.mean, after.encode(image).latent_dist.mean)
    assert not torch.equal(before.decoder.conv_out.weight, after.decoder.conv_out.weight)


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_model_of_either_size_fits_the_limits_and_hears_text_at_sixteen_and_eight_only(size: str) -> None:
    unet = denoiser.new_unet(denoiser.CHANNELS[size])
    parts = (unet, autoencoder.new_vae(autoencoder.CHANNELS[size]), new_text_encoder(new_tokenizer()))
    assert sum(p.numel() for part in parts for p in part.parameters()) <= 24e6
    assert list(unet.config.down_block_types) == ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    assert not [name for name, _ in unet.named_modules() if "mid_block" in name and name.endswith("attn2")]
