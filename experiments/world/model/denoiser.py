"""The UNet and the text encoder of the bundled model, trained together from captions alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from experiments.world.model import data, export
from experiments.world.model.autoencoder import LATENTS, SIDE
from experiments.world.model.parallel import device
from experiments.world.model.text import WIDTH, new_text_encoder
from experiments.world.model.training import Plan, Training

CAPTION_DROPOUT = 0.1  # share of samples without a caption, for classifier-free guidance
DROP_PADDING = 0.5  # fraction of samples whose end and padding tokens are hidden from cross-attention
CHANNELS = {"small": (32, 96, 160), "large": (96, 160, 256)}
HEAD = 32  # channels of an attention head
HELD_BACK = 256  # first scenes of a set, which are measured and not trained on


def new_unet(channels: tuple[int, ...] = CHANNELS["small"], latents: int = LATENTS) -> UNet2DConditionModel:
    """An untrained UNet with cross-attention at 16x16 and 8x8; the level of 4x4 hears no text.

    Every residual branch begins as nothing, so that it is learned from the shallow to the deep.
    """
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=latents,
        out_channels=latents,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=channels,
        layers_per_block=1,
        attention_head_dim=tuple(width // HEAD for width in channels),  # diffusers' name for the number of heads
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )
    with torch.no_grad():
        for module in unet.modules():
            if isinstance(module, ResnetBlock2D):
                module.conv2.weight.zero_()
            elif isinstance(module, Transformer2DModel):
                module.proj_out.weight.zero_()
        unet.conv_out.weight.zero_()
    return unet


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


@dataclass
class Batches:
    """Latents and captions of the training set, drawn at random without their masks.

    The first scenes are held back to measure on. More may become ready while the training runs.
    """

    folder: Path
    latents: Tensor  # (count, channels, 16, 16) float16: on a GPU, or read from disk as it is needed
    token_ids: Tensor  # (count, captions, LENGTH) int16
    empty: Tensor  # (LENGTH,) the ids of no caption
    ready: int = 0

    @staticmethod
    def of(folder: Path, tokenizer: CLIPTokenizer) -> "Batches":
        """Read a training set."""
        ids = torch.from_numpy(data.token_ids(folder, tokenizer))
        empty = tokenizer("", padding="max_length", return_tensors="pt").input_ids[0]
        latents = torch.from_numpy(np.load(folder / "latents.npy", mmap_mode="c"))
        batches = Batches(folder, latents.to(device()), ids.to(device()), empty.to(device(), torch.int16))
        batches.look()
        return batches

    def look(self) -> None:
        """Look how many scenes are ready."""
        self.ready = data.ready(self.folder)

    @property
    def held_back(self) -> int:
        """How many scenes are measured and not trained on."""
        return min(HELD_BACK, len(self.latents) // 4)

    def draw(self, rng: np.random.Generator, count: int, *, back: bool = False) -> tuple[Tensor, Tensor]:
        """(latents (count, channels, 16, 16), token ids (count, LENGTH)) of random scenes, or of those held `back`."""
        rows = torch.from_numpy(rng.integers(*((0, self.held_back) if back else (self.held_back, self.ready)), count))
        ids = self.token_ids[rows, torch.from_numpy(rng.integers(self.token_ids.shape[1], size=count))]
        silent = torch.from_numpy(rng.random(count) < CAPTION_DROPOUT).to(ids.device)
        return self.latents[rows].float(), torch.where(silent[:, None], self.empty, ids).long()


def attended(ids: Tensor, drop_padding: float) -> Tensor:
    """Which tokens (samples, LENGTH) the UNet may attend to: all, or for a fraction `drop_padding` of samples the words alone.

    The end and the padding have seen all words. Where they are there to be read, words are hardly looked at for themselves.
    """
    words = (ids != ids[:, -1:]).cumprod(dim=1).bool()  # the end's token pads too
    return words | (torch.rand(len(ids), 1, device=ids.device) >= drop_padding)


def timesteps_of(count: int, on: torch.device) -> Tensor:
    """Random timesteps: most where shapes come to be (logit-normal), some anywhere, some at pure noise, where sampling begins."""
    middle = torch.sigmoid(0.4 + torch.randn(count, device=on))
    kind = torch.rand(count, device=on)
    share = torch.where(kind < 0.15, torch.rand(count, device=on), middle)
    return torch.where(kind > 0.97, 1.0, share).mul(1000).long().clamp(0, 999)


def loss(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, scheduler: DDIMScheduler, latents: Tensor, ids: Tensor, words: Tensor
) -> Tensor:
    """Mean squared error of the predicted velocity at random timesteps; `words` (samples, LENGTH) may be attended to."""
    noise, timesteps = torch.randn_like(latents), timesteps_of(len(latents), latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=latents.is_cuda):
        states = text_encoder(ids).last_hidden_state
        predicted = unet(noisy, timesteps, states, encoder_attention_mask=words).sample
    return mse_loss(predicted.float(), scheduler.get_velocity(latents, noise, timesteps))


@torch.no_grad()
def measured(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, scheduler: DDIMScheduler, batches: Batches, count: int = 128
) -> float:
    """The loss of samples that are held back; always the same samples, noise and timesteps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        latents, ids = batches.draw(np.random.default_rng(0), count, back=True)
        parts = zip(latents.split(32), ids.split(32), strict=True)
        return float(np.mean([loss(unet, text_encoder, scheduler, x, y, attended(y, DROP_PADDING)).item() for x, y in parts]))


def initial_models(tokenizer: CLIPTokenizer, start: Path | None, size: str) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder as the training finds them: untrained, or those of a pipeline."""
    if start is None:
        return new_unet(CHANNELS[size]), new_text_encoder(tokenizer)
    unet = UNet2DConditionModel.from_pretrained(start, subfolder="unet", dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(start, subfolder="text_encoder", dtype=torch.float32)
    return unet.train(), text_encoder.train()


def fast(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> UNet2DConditionModel:
    """The UNet as it is called in training; prepares both models for the device."""
    if device().type == "cuda":
        unet.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]  # as torch documents it
        return torch.compile(unet)
    # The fused attention's backward pass takes a third of a step on a CPU; plain matrix products do not.
    unet.set_attn_processor(AttnProcessor())
    text_encoder.set_attn_implementation("eager")
    return unet


def train(
    rank: int, processes: int, folder: Path, plan: Plan, batch: int, out: Path, start: Path | None = None, size: str = "small"
) -> None:
    """Train within the plan's budget, or what of it is left, and save the pipeline to `out` from time to time.

    `start`: a pipeline to go on from.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    unet, text_encoder = (model.to(device()) for model in initial_models(tokenizer, start, size))
    scheduler = new_scheduler()
    predict = fast(unet, text_encoder)
    training = Training.begin([unet, text_encoder], folder / "denoiser.pt", plan, data.marks(folder))
    torch.manual_seed(1000 * training.step + rank)
    batches, rng = Batches.of(folder, tokenizer), np.random.default_rng((rank, training.step))
    going, smooth = not training.progress.done, torch.ones((), device=device())
    while going:
        latents, ids = batches.draw(rng, batch)
        value = loss(predict, text_encoder, scheduler, latents, ids, attended(ids, DROP_PADDING))
        going = training.advance(value, batch * processes)
        smooth.lerp_(value.detach(), 0.02)
        if rank == 0 and training.step % 50 == 0:
            print(f"unet: loss {smooth.item():.4f}, step {training.step}, {training.progress}", flush=True)
        if training.step % 100 == 0:
            batches.look()
        if training.save_is_due and rank == 0:
            training.save()
            unseen = measured(unet, text_encoder, scheduler, batches)
            print(f"unet: unseen {unseen:.4f}, step {training.step}, {training.progress}", flush=True)
            export.assemble(folder, out, tokenizer, unet, text_encoder, training.average.values, scheduler)
