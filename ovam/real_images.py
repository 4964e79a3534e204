"""Keeping the pixel queries of a real image, which is noised as in training and evaluated by the UNet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ovam.core.pictures import Picture, rgb_of
from ovam.core.selection import Blocks, FeatureChoice, Positions
from ovam.core.settings import checked
from ovam.errors import InvalidArgumentError, UnsupportedModelError
from ovam.looking import Flow, flows, looking
from ovam.tracing.families import family_of
from ovam.tracing.keys import place_of
from ovam.tracing.model import Pipeline, plain_unet
from ovam.tracing.recorder import Choice, Evaluation, Recorder, Source, recording
from ovam.tracing.trace import Trace

Inversion = Literal["none", "ddim"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Latent = Float[Tensor, "1 channels latent_height latent_width"]

TIMESTEPS = (900, 800, 700, 600, 500, 400, 300, 200, 100)
"""Where noise is added by default, of 1000: the best set that `python -m experiments.real_images` found."""
STEPS = 30
"""Steps of an inversion by default."""


@checked
def trace_image(  # noqa: PLR0913 - every choice of the method is one keyword
    pipeline: Pipeline,
    image: Picture,
    *,
    prompt: str = "",
    timesteps: Sequence[int] | None = None,
    inversion: Inversion = "none",
    num_inference_steps: int = STEPS,
    seed: int = 0,
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    mid_block: bool = False,
    self_attention: bool = False,
    features: FeatureChoice | None = None,
    contributions: bool = False,
    on_evaluation: Callable[[int, int], None] | None = None,
) -> Trace:
    """Keep the queries with which a UNet looks at a real image (Eq. 1, for images that it did not generate).

    The VAE encodes the image, and the UNet evaluates it once per timestep, each time under as much noise as belongs to
    that timestep. `inversion="ddim"` adds no noise but follows the deterministic path of DDIM, from the image towards
    noise, in `num_inference_steps` even steps. There is no guidance; but with `features`, which are of both its halves, the UNet
    looks at the image without the prompt, too.

    Args:
        pipeline: A pipeline that `capture` takes.
        image: A PIL image or an array, with sides that the VAE can halve.
        prompt: What is in the image, or nothing.
        timesteps: Timesteps of the evaluations; by default `TIMESTEPS`.
        inversion: "none", or "ddim".
        num_inference_steps: Evaluations of an inversion.
        seed: Seed of the noise; every evaluation draws its own.
        blocks: As in `capture`, like `evaluations`, `heads`, `mid_block` and `self_attention`.
        evaluations: See `blocks`.
        heads: See `blocks`.
        mid_block: See `blocks`.
        self_attention: See `blocks`.
        features: See `blocks`.
        contributions: See `blocks`.
        on_evaluation: Called with the number of finished evaluations, and of all.

    Under flow matching, noise is mixed in along straight paths, and "ddim" follows the predicted velocity.

    Raises `InvalidArgumentError` for sides that the VAE cannot halve or a timestep out of range, `PromptTooLongError`,
    what `capture` raises, and `UnsupportedModelError` also for schedulers without noise levels that are known, and
    UNets that take more than a latent (inpainting).

    >>> trace = ovam.trace_image(pipeline, np.zeros((64, 96, 3), np.uint8), prompt="a cat", timesteps=[500, 100])
    >>> trace.timesteps, trace.image_size
    ((500.0, 100.0), (64, 96))

    """
    kept = (blocks, evaluations, heads, mid_block, self_attention)
    choice = Choice("conditional", *kept, features=features, contributions=contributions)
    course = Course(prompt, timesteps, inversion, num_inference_steps, seed, on_evaluation)
    (recorder,) = observed(pipeline, image, course, choice)
    return next(recorder.traces())


@dataclass(frozen=True)
class Course:
    """How a UNet looks at a real image; see `trace_image`."""

    prompt: str
    timesteps: Sequence[int] | None
    inversion: Inversion
    num_inference_steps: int
    seed: int
    on_evaluation: Callable[[int, int], None] | None


def observed(pipeline: Pipeline, image: Picture, course: Course, *choices: Choice) -> list[Recorder]:
    """Let a UNet look at a real image, once; return what each choice keeps of it."""
    diffusion = Flow() if flows(pipeline.scheduler) else Diffusion.of(pipeline.scheduler)
    steps = _steps(diffusion, course.timesteps, course.inversion, course.num_inference_steps)
    pixels = rgb_of(image)
    latent = _encoded(pipeline, pixels)
    both = any(choice.features for choice in choices)
    size = (pixels.shape[0], pixels.shape[1])
    look = looking(pipeline, course.prompt, size, both=both)
    random = torch.Generator().manual_seed(course.seed)
    halves = (slice(1), slice(1, None)) if both else (slice(1),)
    evaluation = Evaluation(torch.tensor(steps), len(steps), halves[-1], halves, (course.prompt,))
    source = Source(pipeline, lambda *_: evaluation, generates=False)
    with torch.no_grad(), ExitStack() as stack:
        recorders = [stack.enter_context(recording(source, choice)) for choice in choices]
        sample = latent
        for done, step in enumerate(steps, start=1):
            if course.inversion == "none":
                sample = diffusion.noised(latent, torch.randn(latent.shape, generator=random).to(latent), step)
            prediction = look(sample, step)
            if course.inversion == "ddim" and done < len(steps):
                sample = diffusion.moved(sample, prediction, step, steps[done])
            if course.on_evaluation is not None:
                course.on_evaluation(done, len(steps))
    return recorders


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A scheduler's noise levels, and what its UNet predicts."""

    alphas: Float[Tensor, " timesteps"]
    """Fraction of the image's variance at every timestep."""
    prediction: Prediction

    @classmethod
    def of(cls, scheduler: Any) -> "Diffusion":  # noqa: ANN401 - any scheduler of diffusers
        """Read the noise levels of any scheduler of the model, whatever its steps and its scaling are.

        Raises `UnsupportedModelError`.
        """
        alphas = getattr(scheduler, "alphas_cumprod", None)
        prediction = scheduler.config.get("prediction_type", "epsilon")
        if alphas is None or prediction not in get_args(Prediction):
            raise UnsupportedModelError(
                f"scheduler {type(scheduler).__name__} predicts {prediction!r}; allowed: "
                f"one of {get_args(Prediction)}, with alphas_cumprod"
            )
        return cls(alphas.double(), prediction)

    @property
    def possible(self) -> int:
        """How many timesteps there are."""
        return len(self.alphas)

    def noised(self, latent: Latent, noise: Latent, step: int) -> Latent:
        """Mix a latent with noise as in training; this is what every scheduler's `scale_model_input` gives."""
        image, rest = self._weights(step)
        return image * latent + rest * noise

    def moved(self, sample: Latent, prediction: Latent, step: int, other: int) -> Latent:
        """Move a latent from one timestep to another along DDIM's path (Song et al. 2021, Eq. 13)."""
        image, rest = self._weights(step)
        match self.prediction:
            case "epsilon":
                latent, noise = (sample - rest * prediction) / image, prediction
            case "v_prediction":
                latent, noise = image * sample - rest * prediction, image * prediction + rest * sample
            case "sample":
                latent, noise = prediction, (sample - image * prediction) / rest
        return self.noised(latent, noise, other)

    def _weights(self, step: int) -> tuple[float, float]:
        """Return the factors of the image and of the noise."""
        return float(self.alphas[step].sqrt()), float((1 - self.alphas[step]).sqrt())


def _steps(diffusion: Diffusion | Flow, timesteps: Sequence[int] | None, inversion: Inversion, count: int) -> list[int]:
    """List the timesteps of the evaluations.

    An inversion starts at 0, where there is next to no noise, so that every latent has the noise of its timestep.
    """
    possible = diffusion.possible
    if inversion not in get_args(Inversion):
        raise InvalidArgumentError("inversion", inversion, "'none' or 'ddim'")
    if inversion == "ddim":
        if timesteps is not None:
            raise InvalidArgumentError("timesteps", timesteps, "left out with inversion='ddim'")
        if not 1 <= count <= possible:
            raise InvalidArgumentError("num_inference_steps", count, f"1 to {possible}")
        return [number * possible // count for number in range(count)]
    steps = [step * possible // 1000 for step in TIMESTEPS] if timesteps is None else [*timesteps]
    if not steps or not all(0 <= step < possible for step in steps):
        raise InvalidArgumentError("timesteps", steps, f"at least one, each from 0 to {possible - 1}")
    return steps


def _encoded(pipeline: Pipeline, image: UInt8[np.ndarray, "height width 3"]) -> Latent:
    """Encode an image to the mean of the VAE's posterior, scaled as the UNet takes latents."""
    unet, shape = plain_unet(pipeline), image.shape
    patch = 2 if family_of(unet).packed else getattr(unet.config, "patch_size", None) or 1
    multiple = pipeline.vae_scale_factor * patch
    if any(np.mod(shape[:2], multiple)):
        raise InvalidArgumentError("image", shape, f"(height, width, 3) in multiples of {multiple}")
    config = pipeline.vae.config
    with torch.no_grad(), exact(pipeline.vae) as vae:
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        encoded = vae.encode(pixels.to(place_of(vae), vae.dtype))
        if hasattr(encoded, "latent_dist"):
            latent = encoded.latent_dist.mean.float()
        else:  # of a codebook, or of Sana's autoencoder
            latent = (encoded.latents if hasattr(encoded, "latents") else encoded.latent).float()
    if hasattr(pipeline, "_patchify_latents"):  # FLUX.2's, whose patches are normalised
        norm = pipeline.vae.bn
        patches = pipeline._patchify_latents(latent)  # noqa: SLF001 - the pipeline's own order of channels
        mean, variance = (each.float().view(1, -1, 1, 1) for each in (norm.running_mean, norm.running_var))
        return pipeline._unpatchify_latents((patches - mean) / (variance + config.batch_norm_eps).sqrt())  # noqa: SLF001 - the same
    mean, deviation = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean is not None and deviation is not None:
        mean, deviation = (torch.tensor(values, device=latent.device).view(1, -1, 1, 1) for values in (mean, deviation))
        return (latent - mean) / deviation * config.scaling_factor
    return (latent - (config.get("shift_factor") or 0.0)) * config.scaling_factor


@contextmanager
def exact(vae: Any) -> Iterator[Any]:  # noqa: ANN401 - an autoencoder
    """Compute in single precision inside the `with` where the VAE's own half precision overflows, as SDXL's does."""
    before = vae.dtype
    overflows = before == torch.float16 and bool(vae.config.get("force_upcast"))
    if overflows and any(parameter.is_meta for parameter in vae.parameters()):
        raise UnsupportedModelError("the VAE overflows in half precision, and its weights are offloaded; load it in float32")
    if overflows:
        nn.Module.to(vae, torch.float32)
    try:
        yield vae
    finally:
        if overflows:
            nn.Module.to(vae, before)
