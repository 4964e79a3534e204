"""Whatever a pipeline does to its prompts, an attribution prompt is encoded the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import ovam
from ovam.attention.targets import rows_of
from ovam.errors import InvalidArgumentError, PromptTooLongError
from tests.families import FAMILIES, generate, tiny_family

CPU = torch.device("cpu")


def conditioning(pipeline: Any, prompt: str, **options: Any) -> torch.Tensor:
    return pipeline.encode_prompt(prompt, device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=False, **options)[0][0]


def skipping_layers(family: str) -> Any:
    """Build a pipeline that can leave out layers: diffusers looks for the norm where transformers 4 had it."""
    pipeline = tiny_family(family)
    if not hasattr(pipeline.text_encoder, "text_model"):
        object.__setattr__(pipeline.text_encoder, "text_model", pipeline.text_encoder)
    return pipeline


def vectors(count: int) -> torch.Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(count))


def as_diffusers(folder: Path, name: str, count: int) -> str:
    save_file({name: vectors(count)}, folder / "learned_embeds.safetensors")
    return str(folder / "learned_embeds.safetensors")


def as_web_ui(folder: Path, name: str, count: int) -> str:
    torch.save({"string_to_param": {"*": vectors(count)}, "name": name}, folder / "embedding.pt")
    return str(folder / "embedding.pt")


def load(pipeline: Any, file: str) -> None:
    if hasattr(pipeline, "text_encoder_2"):
        pipeline.load_textual_inversion(file, text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2)
        pipeline.load_textual_inversion(file, text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer)
    else:
        pipeline.load_textual_inversion(file)


PROMPTS = {
    "a <toy> on a tree": [(2, 7)],
    "<toy>": [(0, 5)],
    "a cat, <toy>! and a <toy>": [(7, 12), (20, 25)],
    "<toy><toy>": [(0, 5), (5, 10)],
    "a cat": [],
}


@pytest.mark.parametrize("family", ["sd1", "inpaint", "sdxl"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("file", [as_diffusers, as_web_ui])
def test_a_concept_stands_for_all_its_vectors(
    tmp_path: Path, family: str, count: int, file: Callable[[Path, str, int], str]
) -> None:
    pipeline = tiny_family(family)
    load(pipeline, file(tmp_path, "<toy>", count))
    for prompt, places in PROMPTS.items():
        embedding, tokens = ovam.encode(pipeline, prompt, padding="max_length")
        short, _ = ovam.encode(pipeline, prompt)
        assert torch.allclose(embedding, conditioning(pipeline, prompt), atol=1e-6)
        assert torch.allclose(short, embedding[: len(short)], atol=1e-5)
        if places:
            found = ovam.word_tokens(tokens, prompt, "<toy>")
            assert [token.span for token in found] == [place for place in places for _ in range(count)]
            assert {token.text for token in found} == {"<toy>"}
            assert len(ovam.word_tokens(tokens, prompt, "<toy>", occurrence=len(places) - 1)) == count
    cat = ovam.word_tokens(ovam.encode(pipeline, "a <toy> and a cat")[1], "a <toy> and a cat", "cat")
    assert [(token.index, token.span) for token in cat] == [(4 + count, (14, 17))]


def test_a_concept_named_as_a_word_is_one(tmp_path: Path) -> None:
    pipeline = tiny_family("sd1")
    load(pipeline, as_web_ui(tmp_path, "toy", 2))
    load(pipeline, as_diffusers(tmp_path, "<hat>", 4))
    prompt = "a toy on a <hat> with a toy"
    embedding, tokens = ovam.encode(pipeline, prompt, padding="max_length")
    assert torch.allclose(embedding, conditioning(pipeline, prompt), atol=1e-6)
    assert [token.index for token in ovam.word_tokens(tokens, prompt, "toy")] == [2, 3, 12, 13]
    assert [token.index for token in ovam.word_tokens(tokens, prompt, "<hat>")] == [6, 7, 8, 9]
    together = rows_of(pipeline, [ovam.Words(prompt, "<hat>"), ovam.Words("a cat")], [ovam.Method()] * 2)
    assert [rows.chosen for rows in together] == [(6, 7, 8, 9), (1, 2)]


def test_vectors_count_towards_the_encoders_limit(tmp_path: Path) -> None:
    pipeline = tiny_family("sd1")
    load(pipeline, as_diffusers(tmp_path, "<toy>", 40))
    assert len(ovam.encode(pipeline, "<toy> " + "cat " * 35)[0]) == 77
    with pytest.raises(PromptTooLongError, match="82 tokens"):
        ovam.encode(pipeline, "<toy> <toy>")


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_a_pipeline_leaves_out_are_left_out(family: str) -> None:
    pipeline = skipping_layers(family)
    last = ovam.encode(pipeline, "a cat", padding="max_length")[0]
    for skipped in (0, 1):
        if skipped == 1 and hasattr(pipeline, "text_encoder_2"):
            continue  # of two layers, none before the last but one
        embedding, _ = ovam.encode(pipeline, "a cat", padding="max_length", clip_skip=skipped)
        assert torch.allclose(embedding, conditioning(pipeline, "a cat", clip_skip=skipped), atol=1e-6)
        assert torch.allclose(embedding, last, atol=1e-5) == (skipped == 0)
    layers = pipeline.text_encoder.config.num_hidden_layers - hasattr(pipeline, "text_encoder_2")
    for wrong in (-1, layers + 1, 9):
        with pytest.raises(InvalidArgumentError, match=r"^clip_skip is "):
            ovam.encode(pipeline, "a cat", clip_skip=wrong)


def test_a_trace_remembers_the_layers_that_its_image_was_generated_without() -> None:
    pipeline = skipping_layers("sd1")
    with ovam.capture(pipeline) as traces:
        generate(pipeline, "sd1", clip_skip=1)
        generate(pipeline, "sd1")
    skipping, usual = traces
    assert (skipping.clip_skip, usual.clip_skip) == (1, None)
    embedding, tokens = ovam.encode(pipeline, "a cat", clip_skip=1)
    (row,) = (token.index for token in ovam.word_tokens(tokens, "a cat", "cat"))
    expected = ovam.heatmaps(skipping, embedding)[row]
    again = ovam.Trace.from_bytes(skipping.to_bytes(), pipeline)
    for trace in (skipping, again):
        assert torch.allclose(ovam.word_heatmap(trace, pipeline, "a cat", "cat"), expected)
        found = ovam.segment(trace, pipeline, ovam.Words("a cat", "cat"), ovam.Method())
        sized = ovam.word_heatmap(trace, pipeline, "a cat", "cat", size=trace.image_size)
        assert torch.allclose(torch.from_numpy(found.heatmap), sized, atol=1e-6)
    ranked = ovam.rank_words(skipping, pipeline, "a cat", ["cat"], box=(0, 0, 96, 64))
    assert ranked[0].attention == pytest.approx(float(sized.mean()), rel=1e-4)
    assert not torch.allclose(ovam.word_heatmap(usual, pipeline, "a cat", "cat"), expected, atol=1e-3)
    assert ovam.trace_image(pipeline, torch.zeros(64, 64, 3, dtype=torch.uint8).numpy(), timesteps=[9]).clip_skip is None
