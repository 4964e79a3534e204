"""How a model is shown a real image: its inputs beside the latent, and, of flow matching, noise along straight paths."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ovam.attention.text import encode_each, require_short
from ovam.errors import UnsupportedModelError
from ovam.tracing.families import UNET, family_of
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline, plain_unet

STEPS_OF_FLOW = 1000  # timestep / 1000 is the noise's share
NO_GUIDANCE = 1.0
AESTHETIC_SCORE = 6.0  # SDXL's refiner is conditioned on it; diffusers' default


@dataclass(frozen=True)
class Flow:
    """The noise of flow matching: a straight path from the image to noise, whose velocity the model predicts."""

    possible: int = STEPS_OF_FLOW

    def noised(self, latent: Tensor, noise: Tensor, step: int) -> Tensor:
        """Mix a latent with noise as in training: (1 - s) x + s e, with s = step / 1000."""
        share = step / STEPS_OF_FLOW
        return (1 - share) * latent + share * noise

    def moved(self, sample: Tensor, prediction: Tensor, step: int, other: int) -> Tensor:
        """Move a latent from one timestep to another along its predicted velocity."""
        return sample + (other - step) / STEPS_OF_FLOW * prediction


def flows(scheduler: Any) -> bool:  # noqa: ANN401 - any scheduler of diffusers
    """Whether a scheduler is one of flow matching."""
    return "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("prediction_type") == "flow_prediction"


def looking(pipeline: Pipeline, prompt: str, size: tuple[int, int], *, both: bool) -> Callable[[Tensor, int], Tensor]:
    """Return a function that predicts by a model, given a latent and a timestep; all other inputs are fixed.

    `both` halves of guidance are evaluated side by side, of a UNet alone; what it predicts is the conditional one's.

    Raises `PromptTooLongError`; `UnsupportedModelError` for a UNet that takes more than a latent.
    """
    if family_of(plain_unet(pipeline)) is UNET:
        return looking_unet(pipeline, prompt, size, both=both)
    return looking_transformer(pipeline, prompt, size)


def looking_transformer(pipeline: Pipeline, prompt: str, size: tuple[int, int]) -> Callable[[Tensor, int], Tensor]:
    """Return a function that predicts by a transformer, given a latent and a timestep, as the pipeline would without guidance.

    Raises `PromptTooLongError`.
    """
    unet: Any = plain_unet(pipeline)
    encode_each(pipeline, [prompt])
    with torch.no_grad():
        conditions = _transformer_conditions(pipeline, prompt, size)
    place, family = place_of(unet), family_of(unet)
    scale = unet.config.get("timestep_scale", 1.0) / (STEPS_OF_FLOW if family.packed else 1)

    def look(latent: Tensor, step: int) -> Tensor:
        timestep = torch.tensor([step], device=place) * scale
        sample = latent.to(unet.dtype)
        if not family.packed:
            found = unet(sample, timestep=timestep, **conditions, return_dict=False)[0]
            return found[:, : latent.shape[1]].to(latent.dtype)  # PixArt predicts a variance, too
        found = unet(_row_of(pipeline, sample), timestep=timestep.to(unet.dtype), **conditions, return_dict=False)[0]
        return _laid_out(pipeline, found, size).to(latent.dtype)

    return look


def _row_of(pipeline: Pipeline, latent: Tensor) -> Tensor:
    """Put a latent's patches of 2 by 2 in a row."""
    if hasattr(pipeline, "_patchify_latents"):  # FLUX.2's
        return pipeline._pack_latents(pipeline._patchify_latents(latent))  # noqa: SLF001 - the pipeline's own order of pixels
    return pipeline._pack_latents(latent, *latent.shape)  # noqa: SLF001 - the pipeline's own order of pixels


def _laid_out(pipeline: Pipeline, row: Tensor, size: tuple[int, int]) -> Tensor:
    """Lay a row of patches out as the latent of an image of `size`."""
    if not hasattr(pipeline, "_unpatchify_latents"):
        return pipeline._unpack_latents(row, *size, pipeline.vae_scale_factor)  # noqa: SLF001 - the pipeline's own order of pixels
    grid = [side // pipeline.vae_scale_factor // 2 for side in size]
    return pipeline._unpatchify_latents(row.transpose(1, 2).unflatten(-1, grid))  # noqa: SLF001 - the pipeline's own order of pixels


def _transformer_conditions(pipeline: Pipeline, prompt: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return a transformer's inputs beside latent and timestep."""
    unet: Any = plain_unet(pipeline)
    unguided = {"do_classifier_free_guidance": False}
    match family_of(unet).name:
        case "sd3":
            rows, _, pooled, _ = pipeline.encode_prompt(prompt, None, None, **unguided)
            return {"encoder_hidden_states": rows, "pooled_projections": pooled}
        case "flux":
            rows, pooled, places = pipeline.encode_prompt(prompt)
            height, width = (side // pipeline.vae_scale_factor // 2 for side in size)
            pixels = pipeline._prepare_latent_image_ids(1, height, width, rows.device, rows.dtype)  # noqa: SLF001 - the same
            given = {"encoder_hidden_states": rows, "pooled_projections": pooled, "txt_ids": places, "img_ids": pixels}
            return given | ({"guidance": torch.full([1], NO_GUIDANCE, device=rows.device)} if unet.config.guidance_embeds else {})
        case "flux2":
            rows, places = pipeline.encode_prompt(prompt)
            grid = torch.empty(1, 1, *(side // pipeline.vae_scale_factor // 2 for side in size))
            pixels = pipeline._prepare_latent_ids(grid).to(rows.device)  # noqa: SLF001 - the same
            given = {"encoder_hidden_states": rows, "txt_ids": places, "img_ids": pixels}
            return given | ({"guidance": torch.full([1], NO_GUIDANCE, device=rows.device)} if unet.config.guidance_embeds else {})
        case "sana":
            rows, mask = pipeline.encode_prompt(prompt, **unguided)[:2]
            return {"encoder_hidden_states": rows.to(unet.dtype), "encoder_attention_mask": mask}
        case _:
            rows, mask = pipeline.encode_prompt(prompt, clean_caption=False, **unguided)[:2]
            facts: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
            if unet.use_additional_conditions:
                facts = {"resolution": torch.tensor([size]), "aspect_ratio": torch.tensor([[size[0] / size[1]]])}
                facts = {name: each.to(rows) for name, each in facts.items()}
            return {"encoder_hidden_states": rows, "encoder_attention_mask": mask, "added_cond_kwargs": facts}


def looking_unet(pipeline: Pipeline, prompt: str, size: tuple[int, int], *, both: bool) -> Callable[[Tensor, int], Tensor]:
    """Return a function that predicts by the UNet, given a latent and a timestep; all other inputs are fixed.

    `both` halves of guidance are evaluated side by side; what it predicts is the conditional one's.
    """
    unet: Any = plain_unet(pipeline)
    if unet.config.in_channels != pipeline.vae.config.latent_channels:
        raise UnsupportedModelError(
            f"the UNet takes {unet.config.in_channels} channels; allowed: the {pipeline.vae.config.latent_channels} of a latent"
        )
    require_short(pipeline, prompt)
    with torch.no_grad():
        conditions = _unet_conditions(pipeline, prompt, size)
        if both:
            conditions = _side_by_side(_unet_conditions(pipeline, "", size), conditions)

    def look(latent: Tensor, step: int) -> Tensor:
        timestep = torch.tensor(step, device=latent.device)
        samples = latent.to(unet.dtype).expand(1 + both, -1, -1, -1)
        return unet(samples, timestep, **conditions, return_dict=False)[0][-1:].to(latent.dtype)

    return look


def _side_by_side(first: Any, last: Any) -> Any:  # noqa: ANN401 - a tensor, or a dict of them
    """Put the rows of two sets of inputs below each other."""
    return (
        {name: _side_by_side(first[name], last[name]) for name in first} if isinstance(first, dict) else torch.cat([first, last])
    )


def _unet_conditions(pipeline: Pipeline, prompt: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the UNet's inputs beside latent and timestep, as the pipeline would set them for an image of `size`."""
    unet: Any = plain_unet(pipeline)
    place = place_of(unet)
    options = {"device": place, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    embeddings = pipeline.encode_prompt(prompt=prompt, **options)
    conditions: dict[str, Any] = {"encoder_hidden_states": embeddings[0]}
    if unet.config.time_cond_proj_dim is not None:  # guidance of 1, embedded, counts from 0
        strength = pipeline.get_guidance_scale_embedding(torch.zeros(1), embedding_dim=unet.config.time_cond_proj_dim)
        conditions["timestep_cond"] = strength.to(place, unet.dtype)
    if hasattr(pipeline, "text_encoder_2"):
        looks = pipeline.config.get("requires_aesthetics_score", False)
        facts = (*size, 0, 0, AESTHETIC_SCORE) if looks else (*size, 0, 0, *size)
        ids = torch.tensor([facts], device=place, dtype=unet.dtype)
        conditions["added_cond_kwargs"] = {"text_embeds": embeddings[2], "time_ids": ids}
    return conditions
