"""Models whose pixels and text attend together: what is asked afterwards is the generation's own attention."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformerBlock
from peft import LoraConfig

import ovam
from ovam.attention.halves import halved_target_heatmaps
from ovam.attention.joint import joint_sums, select_joint
from ovam.attention.streams import _block, concept_scores
from ovam.attention.targets import rows_of
from ovam.core.methods import Method
from ovam.errors import (
    AttentionError,
    CaptureError,
    InvalidArgumentError,
    PromptTooLongError,
    SelectionError,
    TokenFamilyError,
    TraceMismatchError,
    WordNotInPromptError,
)
from ovam.tracing.joint import prompts_of
from ovam.tracing.passes import VECTORS_AT_ONCE
from ovam.tracing.sides import BlockSide
from tests.diffusion_transformers import draw, tiny_transformer
from tests.ovam.joint_reference import Watched, joint_probabilities, watch

one_of_each = pytest.mark.parametrize("name", ["sd3.5", "flux-cfg"])
PROMPTS = ["a cat and a dog", "a tree"]
LENGTH = 24


@cache
def untouched(name: str) -> Any:
    return tiny_transformer(name)


@cache
def drawn(name: str) -> tuple[Any, list[ovam.Trace], Watched]:
    """A pipeline, the traces of two images, and what the tests themselves have seen of their generation."""
    pipeline = untouched(name)
    with watch(pipeline) as seen, ovam.capture(pipeline) as traces:
        draw(pipeline, name, PROMPTS)
    return pipeline, traces, seen


@one_of_each
def test_streams_of_several_texts_do_not_see_each_other_and_share_one_pass(name: str) -> None:
    _, traces, _ = drawn(name)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randn(count, traces[0].width, generator=generator) for count in (2, 4)]
    selected = select_joint(traces[0], None, "all", "all", "all")
    together = joint_sums(selected, texts)
    for text, found in zip(texts, together, strict=True):
        assert torch.equal(joint_sums(selected, [text])[0][""], found[""])


@one_of_each
def test_parts_add_up_to_the_whole(name: str) -> None:
    _, traces, _ = drawn(name)
    own = traces[0].joint.embedding
    for attention in ("concept", "joint", "text"):
        options = {"attention": attention, "blocks": "transformer_blocks"}
        whole = ovam.heatmaps(traces[0], own, reduction="sum", **options)
        for by in ("block", "evaluation", "head"):
            parts = ovam.attention.heatmaps.split_heatmaps(traces[0], own, by, reduction="sum", **options)
            assert torch.allclose(parts.maps.sum(dim=0), whole, rtol=1e-4), (attention, by)
        mean = ovam.heatmaps(traces[0], own, **options).sum(dim=0)
        assert torch.allclose(mean, torch.ones_like(mean), atol=1e-5) == (attention != "joint")


@one_of_each
def test_a_stored_trace_answers_as_the_one_in_memory(name: str) -> None:
    pipeline, traces, _ = drawn(name)
    again = ovam.Trace.from_bytes(traces[1].to_bytes(), pipeline)
    assert again.prompt == traces[1].prompt == PROMPTS[1]
    assert again.timesteps == traces[1].timesteps
    assert 0 < min(again.timesteps) < max(again.timesteps) <= 1000
    assert (again.image_size, again.latent_size) == ((64, 96), (8, 12))
    one, other = (ovam.segment(trace, pipeline, "tree", "daam") for trace in (traces[1], again))
    assert np.array_equal(one.heatmap, other.heatmap)
    assert one.heatmap.shape == (64, 96)


@one_of_each
def test_words_compete_and_are_refined_and_are_found_in_the_prompt(name: str) -> None:
    pipeline, traces, _ = drawn(name)
    image = np.zeros((64, 96, 3), np.uint8)
    for found in ovam.segment(traces[0], pipeline, ["cat", "dog"], "ovam", image, softmax="together"):
        assert found.leakage is None or 0 <= found.leakage <= 1
    joint = ovam.segment(traces[0], pipeline, "dog", Method(attention="joint"))
    words = ovam.segment(traces[0], pipeline, ovam.Words(PROMPTS[0], "dog"), Method(attention="joint"))
    assert np.array_equal(joint.heatmap, words.heatmap)
    tokens = ovam.attention.prompts.tokens_drawn_for(pipeline, PROMPTS[0], len(traces[0].joint.embedding))
    rows = [token.index for token in ovam.word_tokens(tokens, PROMPTS[0], "dog")]
    maps = ovam.heatmaps(traces[0], traces[0].joint.embedding, attention="joint", size=(64, 96))
    assert np.allclose(joint.heatmap, maps[rows].mean(dim=0), atol=1e-6)
    same = ovam.word_heatmap(traces[0], pipeline, PROMPTS[0], "dog", attention="joint", size=(64, 96))
    assert np.allclose(joint.heatmap, same, atol=1e-6)
    ranked = ovam.rank_words(traces[0], pipeline, "a cat on a tree", ["cat", "tree"], box=(0, 0, 20, 20))
    assert {one.word for one in ranked} == {"cat", "tree"}


@one_of_each
def test_halves_of_evaluations_and_of_blocks_say_how_sure_a_mask_is(name: str) -> None:
    pipeline, traces, _ = drawn(name)
    method = Method(blocks="transformer_blocks")
    (target,) = rows_of(pipeline, [ovam.Words("a dog", "dog")], [method], trace=traces[0])
    (found,) = halved_target_heatmaps(traces[0], [target], [method])
    options = {"blocks": "transformer_blocks"}
    whole = ovam.heatmaps(traces[0], target.embedding, **options)[list(target.chosen)].mean(dim=0)
    assert torch.allclose(found.whole, whole, atol=1e-6)
    first = ovam.heatmaps(traces[0], target.embedding, evaluations=0, **options)[list(target.chosen)].mean(dim=0)
    assert len(found.halves) == 4  # the heads of a stream are side by side in one
    assert torch.allclose(found.halves[0], first, atol=1e-6)
    assert torch.allclose((found.halves[2] + found.halves[3]) / 2, whole, atol=1e-6)
    sure = ovam.segment(traces[0], pipeline, "dog", method, confidence=True).confidence
    assert sure is not None
    assert 0 <= sure.agreement <= 1


@one_of_each
def test_pixels_attend_to_each_other_as_in_the_generation(name: str) -> None:
    pipeline, traces, seen = drawn(name)
    (layer,) = traces[0].self_attention
    rows = {"sd3.5": [(0, 2), (1, 2)], "flux-cfg": [(0, 0), (2, 0)]}[name]  # evaluations, and rows of the prompted half
    attention = pipeline.transformer.get_submodule(layer.name)
    for place, (number, row) in enumerate(rows):
        count = seen.texts[number]
        _, scores, _ = joint_probabilities(attention, seen.called[layer.name][number], row, count)
        found = layer.scale * layer.queries[place].double() @ layer.keys[place].double().transpose(-1, -2)
        assert torch.allclose(found, scores[:, count:, count:], rtol=1e-3, atol=1e-4)


@one_of_each
def test_the_gradient_of_a_concept_is_that_of_differences(name: str) -> None:
    _, traces, _ = drawn(name)
    rows = torch.randn(3, traces[0].width, generator=torch.Generator().manual_seed(2)).requires_grad_()
    weights = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(3))

    def value(at: torch.Tensor) -> torch.Tensor:
        return (ovam.heatmaps(traces[0], at) * weights).sum()

    value(rows).backward()
    direction = torch.randn(rows.shape, generator=torch.Generator().manual_seed(4))
    step = 1e-2
    with torch.no_grad():
        difference = (value(rows + step * direction) - value(rows - step * direction)) / (2 * step)
    assert float((rows.grad * direction).sum()) == pytest.approx(float(difference), rel=2e-2, abs=1e-4)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_tokens_are_learned_through_the_stream_and_carry_their_family(name: str) -> None:
    pipeline, traces, _ = drawn(name)
    mask = np.zeros((64, 96), bool)
    mask[:, :40] = True
    fit = ovam.optimize_tokens([(traces[0], mask)], "dog", pipeline=pipeline, optimizer="adam", epochs=6)
    assert fit.best_loss < fit.losses[0]
    assert fit.tokens.family == name
    assert ovam.segment(traces[0], pipeline, fit.tokens, "daam").mask.shape == (64, 96)
    other, others, _ = drawn({"sd3": "flux", "flux": "sd3"}[name])
    alien = replace(fit.tokens, embedding=torch.zeros(2, others[0].width))
    with pytest.raises(TokenFamilyError, match=name):
        ovam.segment(others[0], other, alien, "daam")


def test_the_memory_of_a_pass_changes_nothing_but_rounding() -> None:
    pipeline, traces, _ = drawn("flux")
    text = torch.randn(3, traces[0].width, generator=torch.Generator().manual_seed(5))
    small = traces[0].joint.replay.trace(pipeline, memory=1)
    assert torch.allclose(ovam.heatmaps(small, text), ovam.heatmaps(traces[0], text), rtol=1e-5)
    rows = [text.clone().requires_grad_() for _ in range(2)]
    for trace, one in zip((small, traces[0]), rows, strict=True):
        ovam.heatmaps(trace, one)[0].pow(2).sum().backward()
    assert torch.allclose(rows[0].grad, rows[1].grad, rtol=1e-3, atol=1e-7)


@one_of_each
def test_a_lora_counts_as_if_it_were_merged_and_a_question_without_it_is_refused(name: str) -> None:
    pipeline = tiny_transformer(name)
    torch.manual_seed(0)
    layers = ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj"]
    pipeline.transformer.add_adapter(LoraConfig(r=2, target_modules=layers, init_lora_weights=False), adapter_name="style")
    with ovam.capture(pipeline) as styled:
        draw(pipeline, name)
    text = torch.randn(3, styled[0].width, generator=torch.Generator().manual_seed(0))
    found = ovam.heatmaps(styled[0], text)
    pipeline.transformer.fuse_lora()
    pipeline.transformer.unload_lora()
    with ovam.capture(pipeline) as merged:
        draw(pipeline, name)
    assert torch.allclose(found, ovam.heatmaps(merged[0], text), rtol=1e-4)
    with pytest.raises(TraceMismatchError, match="style"):
        ovam.heatmaps(styled[0], text)


def test_a_pass_is_expected_to_take_vectors_of_pixels_and_of_words_and_what_is_kept() -> None:
    _, traces, _ = drawn("flux")
    one = 32 * 4  # bytes of a vector in single precision
    pixels, words = 4 * 6, len(traces[0].joint.embedding)
    for attention, kept in {"text": 1, "joint": 2, "concept": 2 * 4 + 1}.items():  # of four blocks the last one is read
        needs = select_joint(traces[0], attention, "all", "all", "all").needs
        assert traces[0].joint.bytes_of_one(needs) == (VECTORS_AT_ONCE * (pixels + words) + kept * pixels) * one


@pytest.mark.parametrize("inversion", ["none", "ddim"])
@pytest.mark.parametrize("name", ["sd3", "flux", "flux2", "sana"])
def test_a_real_image_is_shown_with_the_noise_of_its_timesteps(name: str, inversion: Any) -> None:
    pipeline = untouched(name)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    course = {"timesteps": [600, 200]} if inversion == "none" else {"inversion": "ddim", "num_inference_steps": 2}
    seen: list[torch.Tensor] = []
    times: list[float] = []

    def see(_: Any, args: Any, options: dict[str, Any]) -> None:
        seen.append((args[0] if args else options["hidden_states"]).clone())
        times.append(float(options["timestep"]))

    hook = pipeline.transformer.register_forward_pre_hook(see, with_kwargs=True)
    trace = ovam.trace_image(pipeline, image, prompt="a cat", **course)
    hook.remove()
    assert times == pytest.approx([time / (1000 if name.startswith("flux") else 1) for time in trace.timesteps])
    assert trace.image_size == (64, 96)
    assert trace.timesteps == pytest.approx((600, 200) if inversion == "none" else (0, 500))
    assert ovam.segment(trace, pipeline, "cat", "daam").heatmap.shape == (64, 96)
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        encoded = pipeline.vae.encode(pixels)
    config, dist = pipeline.vae.config, getattr(encoded, "latent_dist", None)
    latent = encoded.latent if dist is None else dist.mean
    if name == "flux2":
        latent = normalised_patches(pipeline.vae, latent)
    else:
        latent = (latent - (config.get("shift_factor") or 0)) * config.scaling_factor
    random = torch.Generator().manual_seed(0)
    expected = [latent]
    if inversion == "none":
        expected = [(1 - share) * latent + share * torch.randn(latent.shape, generator=random) for share in (0.6, 0.2)]
    for found, wanted in zip(seen, expected, strict=False):
        plain = found
        if name.startswith("flux"):  # a row of patches, whose channels are a latent's, each at four places
            plain = (
                found.transpose(1, 2).unflatten(-1, (4, 6)).unflatten(1, (4, 2, 2)).permute(0, 1, 4, 2, 5, 3).reshape(1, 4, 8, 12)
            )
        assert torch.allclose(plain, wanted, atol=1e-5)


def normalised_patches(vae: Any, latent: torch.Tensor) -> torch.Tensor:
    """Normalise each channel at each of the four places of a patch by itself."""
    found = latent.clone()
    for channel in range(latent.shape[1]):
        for down in range(2):
            for right in range(2):
                number = channel * 4 + down * 2 + right
                mean, variance = vae.bn.running_mean[number], vae.bn.running_var[number]
                part = latent[:, channel, down::2, right::2]
                found[:, channel, down::2, right::2] = (part - mean) / (variance + vae.config.batch_norm_eps).sqrt()
    return found


def test_the_unconditional_half_attends_to_the_negative_prompt() -> None:
    for name in ("sd3", "flux-cfg"):
        pipeline = untouched(name)
        with ovam.capture(pipeline, half="unconditional") as traces:
            draw(pipeline, name, "a cat", negative_prompt="a dog")
        assert traces[0].prompt == "a dog"
        assert len(traces[0].evaluations) == 2
    with pytest.raises(CaptureError, match="guidance is off"), ovam.capture(untouched("flux"), half="unconditional"):
        draw(untouched("flux"), "flux")


def test_skipped_layers_of_guidance_are_no_evaluations() -> None:
    pipeline = untouched("sd3")
    with ovam.capture(pipeline) as traces:
        draw(pipeline, "sd3", num_inference_steps=3, skip_guidance_layers=[1], skip_layer_guidance_stop=1.0)
    assert traces[0].evaluations == (0, 1, 2)


@pytest.mark.parametrize(
    ("method", "target", "error", "says"),
    [
        (Method(attention="cross"), "cat", AttentionError, "concept, joint, text"),
        (Method(attention="joint"), ovam.Words("a cat", "cat"), InvalidArgumentError, "the prompt of the image"),
        (Method(attention="text"), "hat", WordNotInPromptError, "a cat and a dog"),
        (Method(attention="joint"), ovam.Rows(torch.zeros(3, 64)), InvalidArgumentError, "prompt's own rows"),
        (Method(heads=1), "cat", SelectionError, "concept stream"),
        (Method(blocks="down"), "cat", SelectionError, "transformer_blocks"),
        (Method(), ovam.Rows(torch.zeros(3, 32)), InvalidArgumentError, "64"),
        (Method(), ovam.Words("cat " * 100, "cat"), PromptTooLongError, "allowed: 77"),
    ],
)
def test_a_question_that_has_no_answer_is_refused_with_the_reason(method: Method, target: Any, error: type, says: str) -> None:
    pipeline, traces, _ = drawn("sd3")
    with pytest.raises(error, match=says):
        ovam.segment(traces[0], pipeline, target, method)


def test_what_a_capture_cannot_keep_is_refused() -> None:
    pipeline, traces, _ = drawn("sd3")
    with pytest.raises(SelectionError, match="select them in a method"), ovam.capture(pipeline, heads=0):
        draw(pipeline, "sd3")
    with pytest.raises(CaptureError, match=r"joint_attention_kwargs .* cannot keep$"), ovam.capture(pipeline):
        draw(pipeline, "sd3", joint_attention_kwargs={"scale": 0.5})
    with pytest.raises(InvalidArgumentError, match="share"):
        ovam.segment(traces[0], pipeline, ["cat", "dog"], Method(attention="joint"), softmax="together")
    with pytest.raises(TraceMismatchError, match="weights"):
        ovam.Trace.from_bytes(traces[0].to_bytes(), tiny_transformer("sd3", seed=1))
    with ovam.capture(pipeline) as unknown:
        embedded = pipeline.encode_prompt("a cat", None, None, max_sequence_length=LENGTH)
        draw(pipeline, "sd3", None, **dict(zip(EMBEDDINGS, embedded, strict=True)))
    with pytest.raises(InvalidArgumentError, match="given embeddings"):
        ovam.segment(unknown[0], pipeline, ovam.Words("a cat", "cat"), Method(attention="joint"))


@pytest.mark.parametrize("name", ["sd3", "flux", "flux2"])
def test_a_trace_is_that_of_a_transformer_whether_its_projections_are_fused_or_not(name: str) -> None:
    pipeline = tiny_transformer(name)
    with ovam.capture(pipeline) as plain:
        draw(pipeline, name)
    heat = ovam.segment(plain[0], pipeline, "cat", Method()).heatmap
    pipeline.transformer.fuse_qkv_projections()
    with ovam.capture(pipeline) as fused:
        draw(pipeline, name)
    assert np.allclose(ovam.segment(plain[0], pipeline, "cat", Method()).heatmap, heat, rtol=1e-4)
    pipeline.transformer.unfuse_qkv_projections()
    for trace in (plain[0], ovam.Trace.from_bytes(fused[0].to_bytes(), pipeline)):
        assert np.allclose(ovam.segment(trace, pipeline, "cat", Method()).heatmap, heat, rtol=1e-4)


def test_every_image_has_its_own_prompt() -> None:
    assert prompts_of({"prompt": ["a", "b"]}, "conditional", 4) == ("a", "a", "b", "b")
    assert prompts_of({"prompt": "a", "prompt_2": "b", "text_ids": None}, "conditional", 1) == ("b",)
    assert prompts_of({"prompt": "a", "prompt_2": None, "text_ids": None}, "conditional", 1) == ("a",)
    assert prompts_of({"prompt": "a", "prompt_2": "b"}, "conditional", 2) == (None, None)
    assert prompts_of({"prompt": "a", "negative_prompt": "b"}, "unconditional", 1) == ("b",)


def test_prompts_are_encoded_with_the_layers_that_sd3_leaves_out() -> None:
    pipeline = tiny_transformer("sd3")
    for skipped in (None, 1):
        options = {"clip_skip": skipped, "max_sequence_length": LENGTH}
        with torch.no_grad():
            expected = pipeline.encode_prompt("a cat", None, None, do_classifier_free_guidance=False, **options)[0][0]
        assert torch.equal(ovam.encode(pipeline, "a cat", padding="max_length", **options)[0], expected)
    pipeline.tokenizer_2.add_tokens(["monkey"])
    with pytest.raises(InvalidArgumentError, match=r"what both tokenizers cut alike, not into \[3, 7\]"):
        ovam.encode(pipeline, "monkey")


def test_a_concept_is_read_from_blocks_of_two_streams_alone() -> None:
    pipeline = untouched("flux")
    with (
        ovam.capture(pipeline, blocks=["transformer_blocks.0"]) as early,
        ovam.capture(pipeline, blocks=["single_transformer_blocks.1"]) as single,
    ):
        draw(pipeline, "flux")
    assert early[0].joint.blocks("concept", "all") == ("transformer_blocks.0.attn",)  # the usual ones were not kept
    assert single[0].joint.blocks("joint", "all") == ("single_transformer_blocks.1.attn",)
    with pytest.raises(SelectionError, match="through which a concept stream runs"):
        single[0].joint.blocks("concept", "all")
    with pytest.raises(SelectionError):
        drawn("flux")[1][0].joint.blocks("concept", "single_transformer_blocks")


def test_rows_that_are_not_the_prompts_have_no_joint_attention() -> None:
    _, traces, _ = drawn("sd3")
    with pytest.raises(InvalidArgumentError, match="prompt's own rows"):
        ovam.heatmaps(traces[0], traces[0].joint.embedding + 1, attention="joint")


NEEDS = {"transformer_blocks.0.attn": frozenset({"values"})}


def test_a_pass_is_made_once_while_its_result_fits_and_the_last_result_alone_is_kept() -> None:
    pipeline, traces, _ = drawn("sd3")
    first, last, between = [], [], []
    hooks = [
        pipeline.transformer.transformer_blocks[block].register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        for block, passes in ((0, first), (-1, last))
    ]
    counts = []
    for memory in (1 << 30, 1):
        trace = traces[0].joint.replay.trace(pipeline, memory=memory, between=lambda: between.append(1))
        for positions in ((0, 1), (0, 1), (1,), (0, 1)):
            for each in (first, last, between):
                each.clear()
            assert [number for number, _ in trace.joint.sides_kept(NEEDS, positions)] == [*positions]
            counts.append((len(first), len(last), len(between)))
    for hook in hooks:
        hook.remove()
    kept = [(1, 1, 1), (0, 0, 0), (1, 1, 1), (1, 1, 1)]
    assert counts == [*kept, (2, 1, 2), (2, 1, 2), (1, 1, 1), (2, 1, 2)]  # a later pass ends after the block that is needed


def test_fewer_evaluations_are_made_at_a_time_where_memory_ends_and_one_that_does_not_fit_is_an_error() -> None:
    pipeline, traces, _ = drawn("sd3")
    expected = [side.blocks for _, side in traces[0].joint.sides(NEEDS, (0, 1))]
    for most in (1, 0):
        tries: list[int] = []

        def refuse(_block: Any, _args: Any, given: dict[str, Any], most: int = most, tries: list[int] = tries) -> None:
            tries.append(len(given["hidden_states"]))
            assert len(tries) < 9
            if tries[-1] > most:
                raise torch.OutOfMemoryError

        hook = pipeline.transformer.transformer_blocks[0].register_forward_pre_hook(refuse, with_kwargs=True)
        try:
            if most:
                found = [side.blocks for _, side in traces[0].joint.sides(NEEDS, (0, 1))]
                for one, other in zip(found, expected, strict=True):
                    torch.testing.assert_close(one["transformer_blocks.0.attn"].keys, other["transformer_blocks.0.attn"].keys)
            else:
                with pytest.raises(torch.OutOfMemoryError):
                    list(traces[0].joint.sides(NEEDS, (0, 1)))
        finally:
            hook.remove()
        assert tries == ([2, 1, 1] if most else [2, 1])


def test_a_transformer_that_predicts_something_else_is_refused_whatever_block_is_read() -> None:
    pipeline, traces, _ = drawn("sd3")
    hook = pipeline.transformer.proj_out.register_forward_hook(lambda _module, _args, output: 2 * output)
    with pytest.raises(TraceMismatchError, match="predicts something else"):
        list(traces[0].joint.sides(NEEDS, (0, 1)))
    hook.remove()
    weight = pipeline.transformer.proj_out.weight.data
    weight *= 2
    with pytest.raises(TraceMismatchError, match="by this UNet would be others; weights"):
        ovam.heatmaps(traces[0], traces[0].joint.embedding)
    weight /= 2


def test_half_precision_is_left_for_products_and_cut_where_it_ends() -> None:
    random = torch.Generator().manual_seed(0)
    outputs, pixels = (100 * torch.randn(shape, generator=random).half() for shape in ((3, 16), (1, 5, 16)))
    torch.testing.assert_close(concept_scores(outputs, pixels), (outputs.double() @ pixels[0].double().T).float())
    block = FluxTransformerBlock(32, 2, 16)
    with torch.no_grad():
        block.norm1_context.linear.weight.zero_()
        block.norm1_context.linear.bias.fill_(1.0)  # shifts, scales and gates
        block.ff_context.net[2].bias.fill_(60000.0)
    none = torch.zeros(1, 2, 3, 16).half()
    known, states = BlockSide(keys=none, values=none), torch.full((1, 2, 32), 60000.0).half()
    with torch.no_grad():
        _, after = _block(block.half(), known, states, torch.zeros(1, 32).half(), None, ends=False)
    assert after.unique().tolist() == [65504.0]


EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
