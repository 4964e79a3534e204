"""Pictures that are small enough for an event: of an image that is being drawn, and of masks in it."""

import base64
from io import BytesIO
from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from contracts.schema.previews import PREVIEW_SIDE
from ovam.real_images import exact
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline
from ovam.tracing.prediction import Latents

QUALITY = 80
Pixels = UInt8[np.ndarray, "height width 3"]


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of a preview of an image."""
    scale = min(1.0, PREVIEW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@torch.no_grad()
def decoded(pipeline: Pipeline, latents: Latents) -> list[Pixels]:
    """Decode latents by the model's own VAE, pooled first: to half their size, or to a preview's if that is smaller.

    Half of the size looks nearly the same at a quarter of the cost; and no image costs more than one of 128 x 128 pixels.
    """
    vae, config = pipeline.vae, pipeline.vae.config
    pool = max(2, ceil(max(latents.shape[-2:]) * pipeline.vae_scale_factor / PREVIEW_SIDE))
    small = adaptive_avg_pool2d(latents, (ceil(latents.shape[-2] / pool), ceil(latents.shape[-1] / pool))) / config.scaling_factor
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:
        mean, deviation = (small.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        small = small * deviation + mean
    small += config.get("shift_factor") or 0.0
    with exact(vae):
        pixels = vae.decode(small.to(place_of(vae), vae.dtype), return_dict=False)[0].float()
    shown = (pixels.nan_to_num().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return [*shown.permute(0, 2, 3, 1).cpu().numpy()]


def picture_url(pixels: Pixels, size: tuple[int, int]) -> str:
    """Return a picture, resized, as a `data:` URL of a JPEG."""
    picture = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return data_url("image/jpeg", buffer.getvalue())


def mask_url(mask: Bool[np.ndarray, "height width"], size: tuple[int, int]) -> str:
    """Return a mask, resized, as a `data:` URL of a PNG of one bit a pixel."""
    buffer = BytesIO()
    Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST).save(buffer, "PNG")
    return data_url("image/png", buffer.getvalue())


def data_url(media_type: str, data: bytes) -> str:
    """Return a file as a URL that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
