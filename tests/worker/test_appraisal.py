"""What an attribute job says of an image as a whole, with a tiny random CLIP model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from contracts.schema.attribute import AppraisalOptions, AttributeResult
from contracts.schema.errors import Code, ServiceError
from tests.pipelines import tiny_tokenizer
from tests.worker.client import Client
from tests.worker.running import running
from worker.clip import Clip, features
from worker.presence import published_card
from worker.settings import WorkerSettings

TEXTS = ["a photograph of a cat", "a dog"]


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A CLIP model of random weights."""
    tokenizer = tiny_tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**size, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 77},
        vision_config={**size, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_the_cosines_are_those_of_the_whole_model_and_do_not_depend_on_the_other_texts(clip_folder: Path) -> None:
    clip, model = Clip(str(clip_folder), torch.device("cpu")), CLIPModel.from_pretrained(clip_folder).eval()
    cosines, scale = clip.cosines(picture(), TEXTS)
    tokens = tiny_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(picture(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
        ).logits_per_image
    assert np.array(cosines) * scale == pytest.approx(logits[0].numpy(), abs=1e-4)
    assert clip.cosines(picture(), TEXTS[1:])[0] == pytest.approx(cosines[1:], abs=1e-6)
    assert clip.cosines(picture(1), TEXTS)[0] != pytest.approx(cosines, abs=1e-6)
    assert len(clip.cosines(picture(), ["cat " * 200])[0]) == 1  # one that is too long is cut
    directions = torch.ones(1, 2)
    assert features(directions) is features(SimpleNamespace(pooler_output=directions)) is directions


def test_what_is_no_clip_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="OVAM_CLIP") as caught:
        Clip(str(tmp_path), torch.device("cpu")).cosines(picture(), TEXTS)
    assert caught.value.code is Code.MODEL_FAILED_TO_LOAD


async def test_an_attribute_job_says_what_the_image_is_like(client: Client, settings: WorkerSettings, clip_folder: Path) -> None:
    with_clip = settings.model_copy(update={"clip": str(clip_folder)})
    async with running(with_clip) as resources:
        source = await client.generated()
        job = await client.attribution(source)
        plain = (await client.run(job)).result
        asking = job.model_copy(update={"appraisal": AppraisalOptions(clip=TEXTS)})
        asked = (await client.run(asking)).result
        bare = (await client.run(job.model_copy(update={"appraisal": AppraisalOptions()}))).result
        assert (await published_card(resources.redis, "tiny")).clip == str(clip_folder)
    assert isinstance(plain, AttributeResult)
    assert isinstance(asked, AttributeResult)
    assert plain.appraisal is None
    assert asked.appraisal is not None
    assert isinstance(bare, AttributeResult)
    assert bare.appraisal == asked.appraisal.model_copy(update={"clip": [], "clip_scale": None})
    assert (len(asked.appraisal.clip), len(asked.appraisal.looks), asked.appraisal.single_colour) == (2, 16, False)
