"""How a diffusion transformer is shown a real image: noise along straight paths, and its inputs beside the latent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ovam.attention.text import encode_each
from ovam.tracing.families import family_of
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline, plain_unet

STEPS_OF_FLOW = 1000  # timestep / 1000 is the noise's share
NO_GUIDANCE = 1.0


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


def looking_transformer(pipeline: Pipeline, prompt: str, size: tuple[int, int]) -> Callable[[Tensor, int], Tensor]:
    """Return a function that predicts by a transformer, given a latent and a timestep, as the pipeline would without guidance.

    Raises `PromptTooLongError`.
    """
    unet: Any = plain_unet(pipeline)
    encode_each(pipeline, [prompt])
    with torch.no_grad():
        conditions = _conditions(pipeline, prompt, size)
    place, family = place_of(unet), family_of(unet)
    scale = unet.config.get("timestep_scale", 1.0) / (STEPS_OF_FLOW if family.packed else 1)

    def look(latent: Tensor, step: int) -> Tensor:
        timestep = torch.tensor([step], device=place) * scale
        sample = latent.to(unet.dtype)
        if not family.packed:
            found = unet(sample, timestep=timestep, **conditions, return_dict=False)[0]
            return found[:, : latent.shape[1]].to(latent.dtype)  # PixArt predicts a variance, too
        packed = pipeline._pack_latents(sample, *sample.shape)  # noqa: SLF001 - the pipeline's own order of pixels
        found = unet(packed, timestep=timestep.to(unet.dtype), **conditions, return_dict=False)[0]
        return pipeline._unpack_latents(found, *size, pipeline.vae_scale_factor).to(latent.dtype)  # noqa: SLF001 - the same

    return look


def _conditions(pipeline: Pipeline, prompt: str, size: tuple[int, int]) -> dict[str, Any]:
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
