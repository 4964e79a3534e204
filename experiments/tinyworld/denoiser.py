"""The UNet and the text encoder of the bundled model, trained together from captions alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.tinyworld import data
from experiments.tinyworld.text import LENGTH, WIDTH, new_text_encoder
from experiments.tinyworld.training import Training, device

LEARNING_RATE = 8e-4
DECAY_FROM = 0.4  # share of the budget after which the learning rate falls
CAPTION_DROPOUT = 0.1  # share of samples without a caption, for classifier-free guidance
COARSE = (("down_blocks.1", "up_blocks.1"), ("down_blocks.2", "mid_block", "up_blocks.0"))  # at 8x8; at 4x4


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet with cross-attention at 16x16, 8x8 and 4x4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        attention_head_dim=(2, 3, 5),  # diffusers' name for the number of heads
        cross_attention_dim=WIDTH,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Velocity prediction down to pure noise (zero terminal SNR), sampled at trailing timesteps."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


@dataclass(frozen=True)
class Batches:
    """Latents and captions of the training set, drawn at random without their masks."""

    latents: np.ndarray  # (count, 4, 16, 16) float16
    token_ids: np.ndarray  # (count, captions, 77) int16
    empty: np.ndarray  # (77,) the ids of no caption

    @staticmethod
    def of(folder: Path, tokenizer: CLIPTokenizer) -> "Batches":
        """Read a training set."""
        texts = data.captions(folder)
        flat = [text for several in texts for text in several]
        ids = tokenizer(flat, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np").input_ids
        empty = tokenizer("", padding="max_length", max_length=LENGTH, return_tensors="np").input_ids[0]
        latents = np.load(folder / "latents.npy", mmap_mode="r")
        return Batches(latents, ids.astype(np.int16).reshape(len(texts), -1, LENGTH), empty.astype(np.int16))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """(latents (count, 4, 16, 16), token ids (count, 77))."""
        rows = np.sort(rng.choice(len(self.latents), count, replace=False))
        ids = self.token_ids[rows, rng.integers(self.token_ids.shape[1], size=count)].copy()
        ids[rng.random(count) < CAPTION_DROPOUT] = self.empty
        latents = torch.from_numpy(self.latents[rows].astype(np.float32))
        return latents.to(device()), torch.from_numpy(ids.astype(np.int64)).to(device())


@dataclass(frozen=True)
class CaptionDropout:
    """What of the caption is kept from the UNet in training, as fractions of the samples."""

    coarse_attention: float = 0.0
    """Cross-attention at 8x8 is dropped for so many samples, and that at 4x4 for so many others."""
    padding: float = 0.0
    """End and padding tokens are hidden for so many samples."""


NONE = CaptionDropout()


def drop_coarse_attention(unet: UNet2DConditionModel, fraction: float) -> None:
    """From now on, cross-attention at 8x8 adds nothing to a `fraction` of the samples, and that at 4x4 nothing to another.

    Stochastic depth: without it the coarse layers read all that the caption says, and the fine ones learn no more than
    where things are. A new lot is drawn at every step, for all the layers of a resolution together.
    """
    told: dict[int, Tensor] = {}

    def draw(_: Module, arguments: tuple[Tensor, ...]) -> None:
        for level in range(len(COARSE)):
            told[level] = (torch.rand(len(arguments[0]), 1, 1, device=arguments[0].device) >= fraction).float()

    unet.register_forward_pre_hook(draw)
    for level, places in enumerate(COARSE):
        for name, module in unet.named_modules():
            if name.startswith(places) and name.endswith("attn2"):
                module.register_forward_hook(lambda _, __, output, level=level: output * told[level].to(output.dtype))


def attended(ids: Tensor, drop_padding: float) -> Tensor:
    """Which tokens (samples, 77) the UNet may attend to: all, or for a fraction `drop_padding` of samples the words alone.

    The end and the padding have seen all words. Where they are there to be read, words are hardly looked at for themselves.
    """
    words = (ids != ids[:, -1:]).cumprod(dim=1).bool()  # the end's token pads too
    return words | (torch.rand(len(ids), 1, device=ids.device) >= drop_padding)


def loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    scheduler: DDIMScheduler,
    latents: Tensor,
    ids: Tensor,
    words: Tensor | None,
) -> Tensor:
    """Mean squared error of the predicted velocity at random timesteps; `words` (samples, 77) may be attended to; none: all."""
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    with torch.autocast(latents.device.type, torch.bfloat16):
        states = text_encoder(ids).last_hidden_state
        predicted = unet(noisy, timesteps, states, encoder_attention_mask=words).sample
    return mse_loss(predicted.float(), scheduler.get_velocity(latents, noise, timesteps))


def initial_models(tokenizer: CLIPTokenizer, start: Path | None) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder as the training finds them: untrained, or those of a pipeline."""
    if start is None:
        return new_unet(), new_text_encoder(tokenizer)
    unet = UNet2DConditionModel.from_pretrained(start, subfolder="unet", dtype=torch.float32)
    return unet.train(), CLIPTextModel.from_pretrained(start, subfolder="text_encoder", dtype=torch.float32).train()


def train(
    rank: int,
    processes: int,
    folder: Path,
    seconds: float,
    batch: int,
    out: Path,
    start: Path | None = None,
    dropout: CaptionDropout = NONE,
) -> None:
    """Train for `seconds` in all, or what of it is left, and save the pipeline to `out` from time to time.

    `start`: a pipeline to go on from.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    unet, text_encoder = (model.to(device()) for model in initial_models(tokenizer, start))
    scheduler, rate = new_scheduler(), LEARNING_RATE if start is None else LEARNING_RATE / 2
    if device().type == "cpu":
        # The fused attention's backward pass takes a third of a step on a CPU; plain matrix products do not.
        unet.set_attn_processor(AttnProcessor())
        text_encoder.set_attn_implementation("eager")
    if dropout.coarse_attention:
        drop_coarse_attention(unet, dropout.coarse_attention)
    models = [unet, text_encoder]
    training = Training.begin(models, folder / "denoiser.pt", budget=seconds, learning_rate=rate, decay_from=DECAY_FROM)
    torch.manual_seed(1000 * training.step + rank)
    batches, rng = Batches.of(folder, tokenizer), np.random.default_rng((rank, training.step))
    going, smooth = not training.progress.done, 1.0
    while going:
        latents, ids = batches.draw(rng, batch)
        value = loss(unet, text_encoder, scheduler, latents, ids, attended(ids, dropout.padding) if dropout.padding else None)
        going = training.advance(value, batch * processes)
        smooth += 0.02 * (value.item() - smooth)
        if rank == 0 and training.step % 100 == 0:
            print(f"unet: loss {smooth:.4f}, {training.progress}", flush=True)
        if rank == 0 and training.save_is_due:
            training.save()
            assemble(folder, out, tokenizer, training.average.values)


def assemble(folder: Path, out: Path, tokenizer: CLIPTokenizer, weights: list[Tensor]) -> None:
    """Put the parts together to a StableDiffusionPipeline in half precision and save it to `out`."""
    unet, text_encoder = new_unet(), new_text_encoder(tokenizer)
    with torch.no_grad():
        for parameter, value in zip([*unet.parameters(), *text_encoder.parameters()], weights, strict=True):
            parameter.copy_(value)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
