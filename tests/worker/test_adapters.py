"""Files of adapters: where they are looked for, what they are, and why one does not fit."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ovam.tracing import binding
from tests.families import tiny_family
from worker import adapters
from worker.adapted import adapted
from worker.adapters import (
    MOST_VECTORS,
    AdapterFile,
    UnusableAdapterError,
    embeddings_in,
    fetched,
    kind_of,
    located,
    misfit,
    read_adapter,
)

LORA = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.{}.weight"


def saved(path: Path, **shapes: tuple[int, ...]) -> Path:
    save_file({name: torch.arange(float(torch.Size(shape).numel())).reshape(shape) for name, shape in shapes.items()}, path)
    return path


def found(path: Path) -> AdapterFile:
    return read_adapter("it", str(path))


def test_a_folder_has_one_file_of_weights_and_a_pickled_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableAdapterError, match=r"holds no \.safetensors"):
        located(str(tmp_path))
    (tmp_path / "old.bin").write_bytes(pickle.dumps(1))
    for source in (tmp_path, tmp_path / "old.bin"):
        with pytest.raises(UnusableAdapterError, match=r"old\.bin is pickled, and could run code; allowed: safetensors"):
            located(str(source))
    one = saved(tmp_path / "a.safetensors", x=(1, 2))
    assert located(str(tmp_path)) == located(str(one)) == one
    saved(tmp_path / "b.safetensors", x=(1, 2))
    with pytest.raises(UnusableAdapterError, match=r"holds 2 files of weights; name one of them: a\.safetensors"):
        located(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UnusableAdapterError, match=r"notes\.txt does not end with \.safetensors"):
        located(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "~/x", "owner/"])
def test_what_is_no_file_and_no_id_is_named(source: str) -> None:
    with pytest.raises(UnusableAdapterError, match=re.escape(f"no file or folder {source!r}, and it is not a hub id")):
        fetched(source)


def test_nothing_pickled_is_fetched_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "hf_hub_download", lambda *_: pytest.fail("it was asked for"))
    with pytest.raises(UnusableAdapterError, match=r"old\.bin is pickled"):
        fetched("owner/name/old.bin")


def test_a_kind_is_told_by_keys_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    for kind, shapes in {
        "lora": {LORA.format("down"): (2, 4)},
        "textual-inversion": {"emb_params": (2, 4)},
        "ip-adapter": {"ip_adapter.1.to_k_ip.weight": (2, 4), "image_proj.norm.bias": (4,)},
    }.items():
        assert kind_of(saved(path, **shapes)) == kind
    assert kind_of(saved(path, clip_l=(4,), clip_g=(1, 4))) == "textual-inversion", "of one vector"
    for shapes in ({"a": (2, 4), "b": (2, 4), "c": (2, 4)}, {"a": (2, 4, 1)}, {"ip_adapter.1.x": (1, 1, 1)}):
        with pytest.raises(UnusableAdapterError, match="is no LoRA, textual inversion"):
            kind_of(saved(path, **shapes))
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    assert kind_of(path) == "controlnet"


def test_embeddings_are_in_the_order_of_the_encoders_and_few_enough_for_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    first, second = embeddings_in(saved(path, clip_g=(2, 6), clip_l=(2, 4)))
    assert (first.shape, second.shape) == ((2, 4), (2, 6)), "CLIP L's first, whatever the order in the file"
    assert embeddings_in(saved(path, x=(4,)))[0].tolist() == [[0.0, 1.0, 2.0, 3.0]]
    assert len(embeddings_in(saved(path, x=(MOST_VECTORS, 4)))[0]) == MOST_VECTORS
    for shapes in ({"x": (MOST_VECTORS + 1, 4)}, {"x": (0, 4)}, {"clip_l": (1, 4), "clip_g": (2, 4)}):
        with pytest.raises(UnusableAdapterError, match="vectors; allowed: 1 to 75"):
            embeddings_in(saved(path, **shapes))


def test_what_does_not_fit_a_model_is_said(tmp_path: Path) -> None:
    unet, path = tiny_family("sd1").unet, tmp_path / "it.safetensors"
    width = unet.get_submodule(LORA.removeprefix("unet.").removesuffix(".lora.{}.weight")).in_features
    saved(path, **{LORA.format("down"): (2, width), LORA.format("up"): (width, 2)})
    assert misfit(found(path), unet, [32]) is None
    saved(path, **{LORA.format("down"): (width, width + 1), LORA.format("up"): (width, width)})
    assert f"takes {width + 1} numbers; the model's takes {width}" in (misfit(found(path), unet, [32]) or "")
    saved(
        path, **{LORA.format("down").replace("to_q", "to_x"): (2, width), LORA.format("up").replace("to_q", "to_x"): (width, 2)}
    )
    assert "which the model has not" in (misfit(found(path), unet, [32]) or "")

    encoder = "text_encoder.encoder.layers.0.self_attn.q_proj.lora_linear_layer.{}.weight"
    text = {encoder.format("down"): (2, 32), encoder.format("up"): (32, 2)}
    assert misfit(found(saved(path, **text)), unet, [32]) is None
    other = {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (2, 32)}
    other |= {"transformer.transformer_blocks.0.attn.to_q.lora_B.weight": (32, 2)}
    assert misfit(found(saved(path, **text, **other)), unet, [32]) == "it is for a model with a transformer; the model has a unet"

    saved(path, clip_l=(1, 32), clip_g=(1, 48))
    assert misfit(found(path), unet, [32, 48]) is None
    for widths in ([32], [32, 32]):
        assert misfit(found(path), unet, widths) == f"its vectors are [32, 48] wide; the model's text encoders take {widths}"


def test_an_image_prompt_fits_attentions_of_its_sizes_alone(tmp_path: Path) -> None:
    unet, path = tiny_family("sd1").unet, tmp_path / "it.safetensors"
    keys = [module.to_k for name, module in unet.named_modules() if name.endswith("attn2")]
    sizes = [(each.out_features, each.in_features) for each in keys]

    def why(shapes: list[tuple[int, int]]) -> str | None:
        named = {f"ip_adapter.{2 * number + 1}.to_k_ip.weight": shape for number, shape in enumerate(shapes)}
        return misfit(found(saved(path, **named, **{"image_proj.norm.bias": (4,)})), unet, [32])

    assert why(sizes) == "there is no folder 'image_encoder' beside it.safetensors"
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder" / "config.json").touch()
    assert why(sizes) is None
    saved(tmp_path / "image_encoder" / "model.safetensors", x=(1000, 2))
    assert found(path).card().size == sum(each.stat().st_size for each in tmp_path.rglob("*.safetensors")) > 8000
    assert why(sizes[::-1]) is None, "in any order"
    for shapes in (sizes[:-1], [(each, width + 1) for each, width in sizes]):
        assert (why(shapes) or "").startswith(f"it is for {len(shapes)} attentions of sizes")


def test_a_model_with_adapters_shares_its_weights_their_hash_and_its_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_family("sd1")
    pipeline.unet.eval()
    pipeline.text_encoder.train()
    known = binding.weights_hash(pipeline.unet)
    monkeypatch.setattr(binding, "_hash", None)  # nothing is computed any more
    made = adapted(pipeline, [])
    assert binding.weights_hash(made.unet) == known
    for part, mode in (("unet", False), ("text_encoder", True)):
        own, shared = getattr(made, part), getattr(pipeline, part)
        assert own is not shared
        assert {each.training for each in own.modules()} == {mode}
        assert [each.data_ptr() for each in own.state_dict().values()] == [
            each.data_ptr() for each in shared.state_dict().values()
        ]
