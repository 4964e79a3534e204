"""Tiny genuine pipelines of diffusion transformers: every part is the real class, the weights are random."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    HeunDiscreteScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UniPCMultistepScheduler,
)
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.pipelines import WORDS, tiny_text_encoder, tiny_tokenizer, tiny_vae

_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
_SHIFTED = {"use_dynamic_shifting": True, "time_shift_type": "exponential"}
FLOW_SCHEDULERS: dict[str, Callable[[], Any]] = {
    "heun": lambda: FlowMatchHeunDiscreteScheduler(shift=3.0),
    "lcm": lambda: FlowMatchLCMScheduler(shift=3.0),
    "dpm++": lambda: DPMSolverMultistepScheduler(**_FLOW, **_SHIFTED),
    "unipc": lambda: UniPCMultistepScheduler(**_FLOW, flow_shift=3.0),
}
NOISE_SCHEDULERS: dict[str, Callable[[], Any]] = {"heun": HeunDiscreteScheduler, "unipc": UniPCMultistepScheduler}
"""Of PixArt, which predicts noise."""


def tiny_t5_tokenizer() -> T5Tokenizer:
    """Build T5's tokenizer on a few words and single letters."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *letters]
    vocabulary = [(piece, 0.0 if piece.startswith("<") else -2.0 if len(piece) > 2 else -9.0) for piece in pieces]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def tiny_t5(width: int) -> T5EncoderModel:
    """Build a T5 encoder of two layers."""
    config = T5Config(vocab_size=128, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
    return T5EncoderModel(config).eval()


def tiny_gemma_tokenizer() -> GemmaTokenizer:
    """Build Gemma's tokenizer on single letters and a few words."""
    letters = [chr(code) for code in range(33, 127)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        head = "▁"
        for letter in word:
            if (head, letter) not in merges:
                merges.append((head, letter))
            head += letter
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *letters, *dict.fromkeys(a + b for a, b in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, model_max_length=512)
    start = [("<bos>", vocabulary["<bos>"])]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=start)
    return tokenizer


def _vae(channels: int = 4) -> AutoencoderKL:
    """Build an autoencoder whose latents are 1/8 of the image, without quantising layers, as SD3 and FLUX have it."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=channels,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def _sd3(**options: Any) -> StableDiffusion3Pipeline:
    config = {
        "sample_size": 16,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 4,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 64,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 64,
        "pos_embed_max_size": 32,
    }
    one, two = tiny_tokenizer(), tiny_tokenizer(pad_token="!")
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**(config | options)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(),
        text_encoder=tiny_text_encoder(one, CLIPTextModelWithProjection, projection_dim=32),
        tokenizer=one,
        text_encoder_2=tiny_text_encoder(two, CLIPTextModelWithProjection, projection_dim=32),
        tokenizer_2=two,
        text_encoder_3=tiny_t5(64),
        tokenizer_3=tiny_t5_tokenizer(),
    )


def _flux(**options: Any) -> FluxPipeline:
    config = {
        "in_channels": 16,
        "num_layers": 4,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": True,
    }
    tokenizer = tiny_tokenizer()
    return FluxPipeline(
        transformer=FluxTransformer2DModel(**(config | options)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(),
        text_encoder=tiny_text_encoder(tokenizer, CLIPTextModel),
        tokenizer=tokenizer,
        text_encoder_2=tiny_t5(32),
        tokenizer_2=tiny_t5_tokenizer(),
    )


def _pixart(**options: Any) -> PixArtSigmaPipeline:
    config = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 3,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "cross_attention_dim": 16,
        "caption_channels": 32,
        "use_additional_conditions": False,
    }
    return PixArtSigmaPipeline(
        transformer=PixArtTransformer2DModel(**(config | options)),
        scheduler=DPMSolverMultistepScheduler(),
        vae=tiny_vae(),
        text_encoder=tiny_t5(32),
        tokenizer=tiny_t5_tokenizer(),
    )


def _sana(**options: Any) -> SanaPipeline:
    config = {
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": 16,
        "sample_size": 32,
    }
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 2,
        decoder_block_types=("ResBlock",) * 2,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    gemma = Gemma2Config(
        head_dim=8, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, num_key_value_heads=2,
        vocab_size=512,
    )  # fmt: skip
    return SanaPipeline(
        transformer=SanaTransformer2DModel(**(config | options)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae.eval(),
        text_encoder=Gemma2Model(gemma).eval(),
        tokenizer=tiny_gemma_tokenizer(),
    )


def tiny_chat_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Build a tokenizer of single letters and a few words, with a chat's template, and no start token (as Qwen's has none)."""
    marks = ["<pad>", "<unk>", "<|user|>", "<|end|>"]
    letters = [chr(code) for code in range(32, 127)]
    vocabulary = {
        piece: number for number, piece in enumerate([*marks, "\n", *letters, *(word for word in WORDS if len(word) > 1)])
    }
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words = "|".join(sorted((word for word in WORDS if len(word) > 1), key=len, reverse=True))
    backend.pre_tokenizer = Split(Regex(rf"\b(?:{words})\b|[\s\S]"), behavior="isolated")
    backend.add_special_tokens(marks)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>", model_max_length=512
    )
    tokenizer.chat_template = template
    return tokenizer


def _flux2_parts(**options: Any) -> dict[str, Any]:
    config = {
        "in_channels": 16,
        "num_layers": 4,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 48,
        "timestep_guidance_channels": 32,
        "axes_dims_rope": (4, 4, 4, 4),
    }
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = Flux2Transformer2DModel(**(config | options))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return {"transformer": transformer, "scheduler": scheduler, "vae": vae.eval()}


_TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}


def _flux2(**options: Any) -> Flux2Pipeline:
    text = MistralConfig(**_TEXT, num_hidden_layers=30, vocab_size=256).to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "head_dim": 8}
    config = Mistral3Config(text_config=text, vision_config={"model_type": "pixtral", **vision})
    template = "{% for m in messages %}<|user|>{{ m.content[0].text }}{% endfor %}<|end|>"
    pipeline = Flux2Pipeline(
        **_flux2_parts(**options),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=tiny_chat_tokenizer(template),
    )
    pipeline.system_message = "draw a"
    return pipeline


def _klein(**options: Any) -> Flux2KleinPipeline:
    text = Qwen3Config(**_TEXT, num_hidden_layers=27, vocab_size=256)
    template = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}a{% endif %}"
    encoder = Qwen3ForCausalLM(text).eval()
    return Flux2KleinPipeline(**_flux2_parts(**options), text_encoder=encoder, tokenizer=tiny_chat_tokenizer(template))


@dataclass(frozen=True)
class Kind:
    """How a family's pipeline is built, and what it is called with."""

    build: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    """Of the transformer."""
    call: dict[str, Any] = field(default_factory=dict)
    joint: bool = True
    schedulers: dict[str, Callable[[], Any]] = field(default_factory=lambda: FLOW_SCHEDULERS)
    """Others that it can be drawn with."""


KINDS: dict[str, Kind] = {
    "sd3": Kind(_sd3, call={"guidance_scale": 4.0, "max_sequence_length": 24}),
    "sd3.5": Kind(
        _sd3,
        {"dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
        call={"guidance_scale": 4.0, "max_sequence_length": 24},
    ),
    "flux": Kind(_flux, call={"guidance_scale": 3.5, "max_sequence_length": 24}),
    "flux-cfg": Kind(
        _flux,
        {"guidance_embeds": False},
        call={"true_cfg_scale": 4.0, "negative_prompt": "a dog", "max_sequence_length": 24},
    ),
    "flux2": Kind(_flux2, call={"guidance_scale": 3.5, "max_sequence_length": 40}),
    "flux2-klein": Kind(_klein, {"guidance_embeds": False}, call={"guidance_scale": 4.0, "max_sequence_length": 40}),
    "pixart": Kind(
        _pixart,
        call={"guidance_scale": 4.0, "use_resolution_binning": False, "clean_caption": False},
        joint=False,
        schedulers=NOISE_SCHEDULERS,
    ),
    "sana": Kind(
        _sana,
        {"qk_norm": "rms_norm_across_heads"},
        call={"guidance_scale": 4.0, "use_resolution_binning": False},
        joint=False,
    ),
}


def tiny_transformer(name: str, scheduler: str | None = None, seed: int = 0, **options: Any) -> Any:
    """Build a family's pipeline with random weights; ``options`` replace parts of the transformer's config."""
    kind = KINDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = kind.build(**(kind.options | options))
        pipeline.transformer.eval()
        with torch.no_grad():
            for path, module in pipeline.transformer.named_modules():
                if path.endswith((".to_q", ".to_k", ".add_k_proj", ".add_q_proj")):
                    module.weight *= 4
    if scheduler is not None:
        pipeline.scheduler = kind.schedulers[scheduler]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: Any, name: str, prompt: Any = "a cat", *, size: tuple[int, int] = (64, 96), **options: Any) -> Any:
    """Call a family's pipeline for images of ``size`` (height, width), by default in two steps; as latents."""
    settings = {
        "height": size[0],
        "width": size[1],
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(1),
        "output_type": "latent",
        **KINDS[name].call,
    }
    settings |= options
    if isinstance(prompt, list) and isinstance(settings.get("negative_prompt"), str):
        settings["negative_prompt"] = [settings["negative_prompt"]] * len(prompt)
    return pipeline(prompt=prompt, **settings).images
