"""The world's CLIP: the bundled one knows what a picture shows; another is trained, put down and taken up again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from experiments.bundled import CLIP
from experiments.world import atlas
from experiments.world.model import clip, data
from experiments.world.model.text import new_tokenizer
from experiments.world.model.training import Plan
from experiments.world.scene import HELD_OUT, WORLD
from worker.clip import Clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    data.render_shard(0, 1, folder, 0, 12, "start")
    new_tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def test_a_clip_is_trained_and_written_for_the_worker(folder: Path, tmp_path: Path) -> None:
    clip.train(folder, tmp_path / "out", Plan(1.0), 8)
    before = torch.load(folder / "clip.pt", weights_only=True)["samples"]
    assert before >= 8
    clip.train(folder, tmp_path / "out", Plan(2.0), 8)
    assert torch.load(folder / "clip.pt", weights_only=True)["samples"] > before, "it goes on"
    image = np.array(data.images(folder)[0])
    cosines, scale = Clip(str(tmp_path / "out"), torch.device("cpu")).cosines(image, ["a photograph of a cat", "a dog"])
    assert all(-1 <= one <= 1 for one in cosines)
    assert 1 <= scale <= 100 * (1 + 1e-3)


def test_pictures_in_training_are_moved_and_not_changed_otherwise() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8))
    plain = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    sharp = 0
    for seed in range(12):
        seen = clip.moved(images, np.random.default_rng(seed))
        assert seen.shape == plain.shape
        assert float(seen.abs().max()) <= 1
        left, top = (int(value) - clip.SHIFT for value in np.random.default_rng(seed).integers(0, 2 * clip.SHIFT + 1, 2))
        inside = slice(clip.SHIFT, -clip.SHIFT)
        there = plain.roll((-top, -left), (2, 3))[..., inside, inside]
        sharp += bool(torch.equal(seen[..., inside, inside], there))
    assert 6 <= sharp < 12, "some are blurred"


def test_the_bundled_clip_knows_the_things_of_its_world_and_many_of_a_style_that_it_never_saw() -> None:
    model, tokenizer = CLIPModel.from_pretrained(CLIP, dtype=torch.float32).eval(), CLIPTokenizer.from_pretrained(CLIP)
    told = json.loads((CLIP / "world.json").read_text())
    atlas.check(told["atlas"])
    few = 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "LOOKED_AT", few)
        assert clip.named(model, tokenizer, WORLD) > 0.97
        assert 0.5 < clip.named(model, tokenizer, HELD_OUT) < 0.8
    assert told["named"] > 0.99
