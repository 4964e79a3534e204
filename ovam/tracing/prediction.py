"""The image that a UNet expects at an evaluation, long before it is drawn."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "images channels latent_height latent_width"]

KINDS: Final = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a UNet was given at an evaluation, and what it predicted from that."""

    sample: Float[Tensor, "rows *latent"]
    """The noisy latents, and, of an inpainting model, the mask and the masked image behind them."""
    timestep: Any
    """A number or a tensor, as the pipeline gave it."""
    output: Float[Tensor, "rows *predicted"] | None = None

    def latents(self, pipeline: Any, images: int) -> Latents | None:  # noqa: ANN401 - a pipeline
        """Return the latents of the images without their noise, as they are predicted under guidance (x0).

        Whatever the scheduler, the UNet is given latents of unit variance, x = sqrt(a) x0 + sqrt(1 - a) noise, where a is the
        timestep's share of signal. `None` for a scheduler that does not know it.
        """
        signal = getattr(pipeline.scheduler, "alphas_cumprod", None)
        kind = pipeline.scheduler.config.get("prediction_type")
        if self.output is None or signal is None or kind not in KINDS or self.output.shape[1] > self.sample.shape[1]:
            return None
        with torch.no_grad():
            moment = round(float(torch.as_tensor(self.timestep).reshape(-1)[0]))
            share = float(signal[min(max(moment, 0), len(signal) - 1)])
            output = self.output[-images:].float()
            sample = self.sample[-images:, : output.shape[1]].float()
            if len(self.output) == 2 * images:
                without = self.output[:images].float()
                output = without + pipeline.guidance_scale * (output - without)
            match kind:
                case "epsilon":
                    return (sample - (1 - share) ** 0.5 * output) / share**0.5
                case "v_prediction":
                    return share**0.5 * sample - (1 - share) ** 0.5 * output
                case _:
                    return output
