"""Prompts some of whose words count more, or less, than others."""

from collections.abc import Sequence
from typing import Any

import torch

from contracts.schema.images import GenerateJob
from ovam.attention.text import encode_each, word_tokens
from ovam.tracing.model import Pipeline


def prompts_of(pipeline: Pipeline, job: GenerateJob, prompts: Sequence[str]) -> dict[str, Any]:
    """Return the prompts as a pipeline is called with them: as text, or where words are emphasised, as embeddings.

    A word's rows X move along the line from the rows X0 of an empty prompt: X0 + w (X - X0).
    """
    double = hasattr(pipeline, "text_encoder_2")
    if not job.emphasis and (double or job.clip_skip is None):
        return {"prompt": [*prompts]}  # else by our own encoding: diffusers' clip_skip looks for a part that CLIPTextModel lost
    encoded = encode_each(pipeline, [*prompts, ""], padding="max_length", clip_skip=job.clip_skip)
    rows, empty = torch.stack([each for each, _ in encoded[:-1]]), encoded[-1][0]
    for number, (prompt, (_, tokens)) in enumerate(zip(prompts, encoded[:-1], strict=True)):
        for each in job.emphasis:
            for token in word_tokens(tokens, prompt, each.word, occurrence=each.occurrence):
                at = token.index
                rows[number, at] = empty[at] + each.weight * (rows[number, at] - empty[at])
    if not double:
        return {"prompt_embeds": rows}
    pooled = pipeline.encode_prompt([*prompts], device=rows.device, do_classifier_free_guidance=False, clip_skip=job.clip_skip)[2]
    return {"prompt_embeds": rows, "pooled_prompt_embeds": pooled}
