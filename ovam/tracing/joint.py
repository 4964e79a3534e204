"""Blocks in which pixels and text attend together: which a model has, and what each computes of both (SD3, FLUX)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.core.selection import Blocks, select_blocks
from ovam.tracing.blocks import Layer
from ovam.tracing.families import family_of

Rotation = tuple[Tensor, Tensor] | None
"""Cosine and sine of every position of the joint sequence (RoPE), each (length, head_dim)."""


def joint_attentions(unet: nn.Module) -> dict[str, Any]:
    """Map the path of every attention of pixels and text together to its module: blocks of two streams, then of one."""
    blocks = ("transformer_blocks", "single_transformer_blocks")
    return {f"{part}.{number}.attn": block.attn for part in blocks for number, block in enumerate(getattr(unet, part, ()))}


def of_two_streams(name: str) -> bool:
    """Whether a block keeps pixels and text apart, with weights for each; the later blocks of FLUX do not."""
    return name.startswith("transformer_blocks.")


def joint_layers(unet: Any, blocks: Blocks, latent_size: tuple[int, int]) -> tuple[Layer, ...]:  # noqa: ANN401 - a transformer
    """List the joint blocks that a capture selects. Raises `SelectionError`."""
    attentions = joint_attentions(unet)
    patch = 2 if family_of(unet).packed else unet.config.patch_size
    grid = (latent_size[0] // patch, latent_size[1] // patch)
    names = select_blocks(blocks, dict.fromkeys(attentions, grid))
    return tuple(Layer(name, grid, to_text=True, heads=attentions[name].heads, head_indices=None) for name in names)


def latent_size_of(sample: Tensor, options: Mapping[str, Any]) -> tuple[int, int]:
    """Return the (height, width) of latents; where their pixels are packed in a row, by the positions of these."""
    if sample.ndim == 4:
        return sample.shape[-2], sample.shape[-1]
    ids = options["img_ids"]
    last = (ids[0] if ids.ndim == 3 else ids).amax(dim=0)
    return 2 * (int(last[1]) + 1), 2 * (int(last[2]) + 1)


def prompts_of(call: Mapping[str, Any], half: str, images: int) -> tuple[str | None, ...]:
    """Return the prompt of every image of a pipeline's call; `None` where it is unknown, or each text encoder has its own."""
    name = "prompt" if half == "conditional" else "negative_prompt"
    texts = [call.get(f"{name}{end}") for end in ("", "_2", "_3")]
    if "text_ids" in call:  # the rows are the second encoder's alone
        texts = [texts[1] or texts[0]]
    given = [text for text in texts if text is not None]
    if not given or any(text != given[0] for text in given):
        return (None,) * images
    prompts = [given[0]] if isinstance(given[0], str) else given[0]
    return tuple(prompts[image * len(prompts) // images] for image in range(images))


@dataclass(frozen=True, eq=False)
class Projections:
    """What a joint attention projects of pixels, or of words."""

    queries: Float[Tensor, "rows heads length head_dim"]
    keys: Float[Tensor, "rows heads length head_dim"]
    values: Float[Tensor, "rows heads length head_dim"]


def of_pixels(attention: Any, states: Float[Tensor, "rows length width"], rotation: Rotation) -> Projections:  # noqa: ANN401
    """Project pixels; in a block of one stream, pixels and text."""
    if hasattr(attention, "to_qkv_mlp_proj"):  # of FLUX.2, with the feed-forward's rows behind them
        projected = attention.to_qkv_mlp_proj(states)[..., : 3 * attention.inner_dim].chunk(3, dim=-1)
    else:
        projected = attention.to_q(states), attention.to_k(states), attention.to_v(states)
    return _projections(
        attention,
        projected,
        (attention.norm_q, attention.norm_k),
        rotation,
    )


def of_words(attention: Any, states: Float[Tensor, "rows length width"], rotation: Rotation) -> Projections:  # noqa: ANN401
    """Project rows of text by the text's own weights."""
    return _projections(
        attention,
        (attention.add_q_proj(states), attention.add_k_proj(states), attention.add_v_proj(states)),
        (attention.norm_added_q, attention.norm_added_k),
        rotation,
    )


def _projections(attention: Any, projected: tuple[Tensor, ...], norms: tuple[Any, Any], rotation: Rotation) -> Projections:  # noqa: ANN401
    queries, keys, values = (each.unflatten(-1, (attention.heads, -1)) for each in projected)
    queries, keys = (each if norm is None else norm(each) for each, norm in zip((queries, keys), norms, strict=True))
    if rotation is not None:
        queries, keys = rotated(queries, rotation), rotated(keys, rotation)
    return Projections(queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))


def rotated(
    states: Float[Tensor, "rows length heads head_dim"], rotation: tuple[Tensor, Tensor]
) -> Float[Tensor, "rows length heads head_dim"]:
    """Rotate neighbouring channels by the angles of their position (RoPE), in single precision."""
    cosine, sine = (each[None, :, None].to(states.device) for each in rotation)
    real, imaginary = states.reshape(*states.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    return (states.float() * cosine + turned.float() * sine).to(states.dtype)


def part_of(rotation: Rotation, start: int | None, stop: int | None) -> Rotation:
    """Return the rotations of some positions."""
    return None if rotation is None else (rotation[0][start:stop], rotation[1][start:stop])
