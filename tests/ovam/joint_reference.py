"""Attention of transformers computed the long way round, in double precision, from what a generation's own blocks were given.

It shares nothing with the library: weights are read, not called; norms, rotations and softmaxes are written out.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(eq=False)
class Watched:
    """What every attention of pixels to a text was called with, block by block, evaluation by evaluation."""

    called: dict[str, list[dict[str, Tensor]]] = field(default_factory=dict)
    texts: list[int] = field(default_factory=list)
    """Rows of the text at each evaluation."""
    awake: bool = True


@contextmanager
def watch(pipeline: Any) -> Iterator[Watched]:
    """Record what reaches the attentions of a transformer while it generates inside the `with`."""
    watched = Watched()

    def begin(_module: Any, args: Any, options: dict[str, Any]) -> None:
        if not watched.awake:
            return
        words = options["encoder_hidden_states"] if "encoder_hidden_states" in options else args[2]
        watched.texts.append(words.shape[1])

    def attend(name: str) -> Any:
        def hook(_module: Any, args: Any, options: dict[str, Any], _output: Any) -> None:
            if not watched.awake:
                return
            kept = {part: each.clone() if isinstance(each, Tensor) else each for part, each in options.items()}
            watched.called.setdefault(name, []).append(({"hidden_states": args[0].clone()} if args else {}) | kept)

        return hook

    with ExitStack() as hooks:
        first = pipeline.transformer.transformer_blocks[0]
        hooks.callback(first.register_forward_pre_hook(begin, with_kwargs=True).remove)
        for part in ("transformer_blocks", "single_transformer_blocks"):
            for number, block in enumerate(getattr(pipeline.transformer, part, ())):
                name = "attn2" if hasattr(block, "attn2") and pipeline.transformer.config.get("cross_attention_dim") else "attn"
                hook = attend(f"{part}.{number}.{name}")
                hooks.callback(getattr(block, name).register_forward_hook(hook, with_kwargs=True).remove)
        yield watched


def linear(layer: Any, states: Tensor) -> Tensor:
    found = states.double() @ layer.weight.double().T
    return found if layer.bias is None else found + layer.bias.double()


def projected(attention: Any, name: str, states: Tensor) -> Tensor:
    """Project pixels; FLUX.2's later blocks have queries, keys, values and more in one matrix."""
    if not hasattr(attention, "to_qkv_mlp_proj"):
        return linear(getattr(attention, name), states)
    start = ("to_q", "to_k", "to_v").index(name) * attention.inner_dim
    weight = attention.to_qkv_mlp_proj.weight[start : start + attention.inner_dim]
    return states.double() @ weight.double().T


def normed(norm: Any, states: Tensor) -> Tensor:
    """Root mean square over a head's channels."""
    if norm is None:
        return states
    size = (states.pow(2).mean(dim=-1, keepdim=True) + norm.eps).sqrt()
    return states / size * norm.weight.double()


def turned(states: Tensor, rotation: Any) -> Tensor:
    """Rotate (heads, length, head_dim): pairs of neighbouring channels are complex numbers."""
    if rotation is None:
        return states
    cosine, sine = (each.double()[:, ::2] for each in rotation)
    numbers = torch.view_as_complex(states.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(numbers * torch.complex(cosine, sine)).flatten(-2)


def heads(attention: Any, states: Tensor) -> Tensor:
    return states.unflatten(-1, (attention.heads, -1)).transpose(0, 1)


@torch.no_grad()
def joint_probabilities(attention: Any, called: dict[str, Any], row: int, texts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (heads, length, length) probabilities of the whole sequence, text first, their scores, and its values."""
    rotation = called.get("image_rotary_emb")
    pixels = called["hidden_states"][row]
    words = None if called.get("encoder_hidden_states") is None else called["encoder_hidden_states"][row]
    parts = []
    for own, added, norm, added_norm in (
        ("to_q", "add_q_proj", "norm_q", "norm_added_q"),
        ("to_k", "add_k_proj", "norm_k", "norm_added_k"),
        ("to_v", "add_v_proj", None, None),
    ):
        here = normed(getattr(attention, norm) if norm else None, heads(attention, projected(attention, own, pixels)))
        if words is not None:
            there = heads(attention, linear(getattr(attention, added), words))
            here = torch.cat([normed(getattr(attention, added_norm) if added_norm else None, there), here], dim=1)
        parts.append(turned(here, rotation) if norm else here)
    queries, keys, values = parts
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    assert texts < scores.shape[-1]
    return scores.softmax(dim=-1), scores, values


def joint_maps(pipeline: Any, watched: Watched, rows: dict[int, int], block: str) -> Tensor:
    """Sum over evaluations (each with its row of the batch) and heads the attention of pixels to words: (tokens, pixels)."""
    attention = pipeline.transformer.get_submodule(block)
    total: Any = 0
    for number, row in rows.items():
        count = watched.texts[number]
        attended, _, _ = joint_probabilities(attention, watched.called[block][number], row, count)
        total = total + attended[:, count:, :count].sum(dim=0).T
    return total


def text_maps(pipeline: Any, watched: Watched, rows: dict[int, int], block: str) -> Tensor:
    """The same among the words alone."""
    attention = pipeline.transformer.get_submodule(block)
    total: Any = 0
    for number, row in rows.items():
        count = watched.texts[number]
        _, scores, _ = joint_probabilities(attention, watched.called[block][number], row, count)
        total = total + scores[:, count:, :count].softmax(dim=-1).sum(dim=0).T
    return total


def concept_maps(pipeline: Any, watched: Watched, rows: dict[int, int], block: str) -> Tensor:
    """Run the prompt's own words as concepts: what they attend to by what pixels attend to, softmax over the words.

    The stream of a prompt's own rows is the prompt's own, so nothing but the generation itself is looked at.
    """
    attention = pipeline.transformer.get_submodule(block)
    total: Any = 0
    for number, row in rows.items():
        count = watched.texts[number]
        attended, _, values = joint_probabilities(attention, watched.called[block][number], row, count)
        outputs = (attended @ values).transpose(0, 1).flatten(1)
        total = total + (outputs[:count] @ outputs[count:].T).softmax(dim=0)
    return total


def across(norm: Any, states: Tensor) -> Tensor:
    """Root mean square over all channels."""
    if norm is None:
        return states
    return states / (states.pow(2).mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()


@torch.no_grad()
def cross_maps(pipeline: Any, watched: Watched, rows: dict[int, int], block: str) -> Tensor:
    """The same of pixels to the words of a caption in an attention of its own; masked words are left out."""
    attention = pipeline.transformer.get_submodule(block)
    total: Any = 0
    for number, row in rows.items():
        called = watched.called[block][number]
        queries = heads(attention, across(attention.norm_q, linear(attention.to_q, called["hidden_states"][row])))
        keys = heads(attention, across(attention.norm_k, linear(attention.to_k, called["encoder_hidden_states"][row])))
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5 + called["attention_mask"][row].double()
        total = total + scores.softmax(dim=-1).sum(dim=0).T
    return total[total.sum(dim=1) > 0]
