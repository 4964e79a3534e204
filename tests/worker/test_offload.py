"""Models whose weights wait in the host's memory draw and answer as others do, with and without adapters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ovam
from tests.e2e.steering import saved_lora
from tests.families import tiny_family
from worker.adapters import read_adapter
from worker.models import Model, lent, load_model, with_adapters

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def loaded(folder: Path, device: str, *, offload: bool) -> Model:
    return load_model("it", str(folder), device=torch.device(device), dtype=torch.float32, default=True, offload=offload)


def answers(model: Model) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """An image, and a word's heatmaps by its queries and by its replay."""
    with lent(model) as pipeline, ovam.capture(pipeline) as traces, ovam.capture_replay(pipeline) as replays:
        seed = torch.Generator().manual_seed(0)
        drawn: Any = pipeline("a cat", height=64, width=96, num_inference_steps=2, generator=seed)
    kept, again = traces[0], replays[0].trace(pipeline)
    maps = [ovam.word_heatmap(trace, model.pipeline, "a big dog", "dog").cpu() for trace in (kept, again)]
    return np.asarray(drawn.images[0]), maps[0], maps[1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_it_draws_and_answers_the_same(family: str, device: str, tmp_path: Path) -> None:
    tiny_family(family).save_pretrained(tmp_path)
    plain, offloaded = (loaded(tmp_path, device, offload=offload) for offload in (False, True))
    assert plain.weights == offloaded.weights
    for one, other in zip(answers(plain), answers(offloaded), strict=True):
        assert np.allclose(one, other, atol=1e-6)
    lora = read_adapter("it", str(saved_lora(family, tmp_path)))
    adapted, by_offloaded = (with_adapters(model, [(lora, 1.0)]) for model in (plain, offloaded))
    for one, other, without in zip(answers(adapted), answers(by_offloaded), answers(offloaded), strict=True):
        assert np.allclose(one, other, atol=1e-6)
        assert not np.allclose(one, without, atol=1e-6)
    with lent(offloaded) as pipeline:
        pipeline("a cat", height=64, width=96, num_inference_steps=1)
    assert offloaded.pipeline.unet.device.type == "cpu"  # once an image is drawn
