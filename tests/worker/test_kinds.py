"""What a diffusion transformer cannot do is refused with the reason: every family, every field, every kind of adapter."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from contracts.rules.abilities import check_ability, check_able, check_capture
from contracts.rules.adapters import adapter_of
from contracts.schema.adapters import AdapterKind
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import CaptureOptions, GenerateRequest
from contracts.schema.models import Ability, ModelCard
from tests.contracts.test_targets import MODEL
from tests.diffusion_transformers import tiny_transformer
from tests.e2e.steering import saved_controlnet, saved_inversion, saved_ip_adapter, saved_lora
from worker.kinds import KINDS, Kind
from worker.presence import offered

TRANSFORMERS = [kind for kind in KINDS.values() if kind.transformer]
ANOTHER = {"job_id": "0" * 26}
REQUESTS: dict[Ability, dict[str, Any]] = {
    "image": {"image": ANOTHER},
    "mask": {"image": ANOTHER, "mask": [[0, 0, 4, 0, 4, 4]]},
    "negative_prompt": {"negative_prompt": "a dog"},
    "emphasis": {"emphasis": [{"word": "cat", "weight": 1.5}]},
    "clip_skip": {"clip_skip": 1},
}
TINY = {
    "PixArtAlphaPipeline": "pixart",
    "PixArtSigmaPipeline": "pixart",
    "SanaPipeline": "sana",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
    "Flux2Pipeline": "flux2",
    "Flux2KleinPipeline": "flux2-klein",
}
ALWAYS = {"sd3": {"negative_prompt", "clip_skip", "confidence"}, "flux": {"confidence"}, "flux2": {"confidence"}}
CROSS = {"negative_prompt", "queries", "confidence", "aggregation"}


def test_an_option_that_a_pipeline_does_not_take_has_no_default() -> None:
    kind = KINDS["StableDiffusionPipeline"]
    assert (kind.default("num_inference_steps"), kind.default("nothing")) == (50, None)


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_a_transformer_computes_half_precision_in_bfloat16_and_a_unet_as_it_is_told(kind: Kind) -> None:
    half = torch.bfloat16 if kind.transformer else torch.float16
    wanted = (torch.float16, torch.bfloat16, torch.float32)
    assert [kind.dtype(each) for each in wanted] == [half, torch.bfloat16, torch.float32]


def card_of(kind: Kind, folder: Path) -> ModelCard:
    """The card of a model whose configuration alone is there."""
    pipeline = tiny_transformer(TINY[kind.name])
    pipeline.save_config(folder)
    pipeline.transformer.save_config(folder / "transformer")
    layers = 0 if "clip_skip" in kind.cannot else 2
    more = {"source": str(folder), "family": kind.family, "cannot": dict(kind.cannot), "max_clip_skip": layers}
    return MODEL.model_copy(update=more)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One of each kind, by the name of the kind."""
    folder = tmp_path_factory.mktemp("adapters")
    found = {
        "lora": saved_lora("sd1", folder / "style"),
        "textual-inversion": saved_inversion("sd1", folder / "toy.safetensors"),
        "controlnet": saved_controlnet("sd1", folder / "edges"),
        "ip-adapter": saved_ip_adapter("sd1", folder / "looks"),
    }
    assert {*found} == {*get_args(AdapterKind)}
    return {name: str(path) for name, path in found.items()}


@pytest.mark.parametrize("kind", TRANSFORMERS, ids=lambda kind: kind.name)
def test_whatever_a_family_cannot_do_is_refused_with_its_reason(kind: Kind, adapters: dict[str, str], tmp_path: Path) -> None:
    card = card_of(kind, tmp_path)
    card = card.model_copy(update=offered(adapters, card))
    assert {*card.can} == ALWAYS.get(kind.family or "", CROSS)
    assert {*card.can} | {*card.cannot} | {"lora"} == {*get_args(Ability)}, "nothing is left unsaid"
    assert ("lora" in card.cannot) == (kind.family == "pixart")
    refused = {*REQUESTS} & {*card.cannot}
    for ability in refused:
        with pytest.raises(ServiceError, match=card.cannot[ability]) as caught:
            check_able(GenerateRequest(prompt="a cat", **REQUESTS[ability]), card)
        field = "image" if ability == "mask" else ability  # there is no mask without an image
        assert (caught.value.code, caught.value.field) == (Code.SETTINGS_CONTRADICT, field)
    with pytest.raises(ServiceError, match=card.cannot["causal"]):
        check_ability("causal", card, field="causal", value=None)
    if "clip_skip" in card.cannot:
        with pytest.raises(ServiceError, match=card.cannot["clip_skip"]):
            check_able(GenerateRequest(prompt="a cat", clip_skip=0), card)
    if "queries" in card.cannot:
        with pytest.raises(ServiceError, match=card.cannot["queries"]):
            check_capture(CaptureOptions(keep="queries"), card)
    for name in adapters:
        reason = card.cannot.get(name, "it is for a model with a unet; the model has a transformer")  # the LoRA is a UNet's
        with pytest.raises(ServiceError, match=reason) as caught:
            adapter_of(card, name, get_args(AdapterKind), field="adapters.0.name")
        assert caught.value.code == Code.ADAPTER_UNFIT
    for ability in {*REQUESTS} - refused:
        check_able(GenerateRequest(prompt="a cat", **REQUESTS[ability]), card)
