"""SD3 and FLUX.1 at full width, with few layers and random weights: what a step keeps, what drawing and questions take."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)

import ovam
from benchmarks.result import Result, Setup
from benchmarks.timing import peak_bytes, seconds
from ovam.attention.joint import select_joint

if TYPE_CHECKING:
    from ovam.core.methods import Attention

SIDE = 512  # pixels
STEPS = 2
CONCEPTS = 4
MEGA = 1e6


@dataclass(frozen=True)
class Wide:
    """A family's model, as wide as the published one."""

    name: str
    build: Callable[[int], Any]
    """Its pipeline with so many blocks of two streams; without text encoders."""
    rows: int
    """Of a prompt."""
    pooled: int
    width: int = 4096
    """Of a row."""
    side: int = SIDE

    def draw(self, pipeline: Any) -> ovam.Trace:  # noqa: ANN401  # a pipeline
        """Draw one image of a random prompt, and keep its trace."""
        generator = torch.Generator().manual_seed(0)
        given = {
            "prompt_embeds": torch.randn(1, self.rows, self.width, generator=generator),
            "pooled_prompt_embeds": torch.randn(1, self.pooled, generator=generator),
        }
        with ovam.capture(pipeline) as traces:
            pipeline(
                **given,
                height=self.side,
                width=self.side,
                num_inference_steps=STEPS,
                guidance_scale=1.0,
                generator=generator,
                output_type="latent",
            )
        return traces[0]


def parts() -> dict[str, Any]:
    """What a pipeline has beside its transformer: a scheduler, and an autoencoder, which is not used."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
        latent_channels=16,
    )
    names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    return {"vae": vae, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0), **dict.fromkeys(names)}


def sd3(layers: int) -> StableDiffusion3Pipeline:
    """Build SD3 medium."""
    transformer = SD3Transformer2DModel(
        num_layers=layers,
        attention_head_dim=64,
        num_attention_heads=24,
        caption_projection_dim=1536,
        pos_embed_max_size=192,
    )
    return StableDiffusion3Pipeline(transformer=transformer, text_encoder_3=None, tokenizer_3=None, **parts())


def flux(layers: int) -> FluxPipeline:
    """Build FLUX.1 dev."""
    return FluxPipeline(
        transformer=FluxTransformer2DModel(num_layers=layers, num_single_layers=1, guidance_embeds=True), **parts()
    )


FAMILIES = (Wide("SD3 medium", sd3, 77 + 256, 2048), Wide("FLUX.1", flux, 512, 768))


def joint(setup: Setup, families: tuple[Wide, ...] = FAMILIES, layers: int = 2) -> Iterator[Result]:
    """What each family takes; one after the other, since each has gigabytes of weights."""
    if setup.threads:
        torch.set_num_threads(setup.threads)
    for wide in families:
        if setup.rows in wide.name:
            yield from taken(wide, layers)


def taken(wide: Wide, layers: int) -> Iterator[Result]:
    """What one family takes: drawing, then questions about the image."""
    pipeline = wide.build(layers)
    pipeline.transformer.eval()
    pipeline.set_progress_bar_config(disable=True)
    weights = sum(each.nbytes for each in pipeline.transformer.parameters())
    what = f"{wide.name} at full width, {layers} blocks of two streams, {wide.side} x {wide.side}, single precision"
    traces: list[ovam.Trace] = []
    time, peak = measured(lambda: traces.append(wide.draw(pipeline)))
    trace = traces[0]
    if trace.joint is None:
        raise RuntimeError(f"{wide.name} has no joint attention")
    step = trace.joint.replay.samples[0].nbytes
    details: dict[str, float | int | str | bool] = {
        "weights_mb": weights / MEGA,
        "step_mb": step / MEGA,
        "image_mb": trace.nbytes / MEGA,
    }
    yield Result(
        f"joint, {wide.name}, drawing",
        f"{what}: seconds of an evaluation while it is captured",
        time / STEPS,
        "s",
        details=details | {"peak_mb": peak / MEGA},
    )
    concepts = torch.randn(CONCEPTS, wide.width, generator=torch.Generator().manual_seed(1))
    own = trace.joint.embedding
    asked: list[tuple[Attention, torch.Tensor]] = [("concept", concepts), ("joint", own), ("text", own)]
    shares = []
    for attention, rows in asked:
        bound = STEPS * trace.joint.bytes_of_one(select_joint(trace, attention, "all", "all", "all").needs)
        time, peak = measured(partial(ovam.heatmaps, trace, rows, attention=attention))
        shares.append(peak / bound)
        yield Result(
            f"joint, {wide.name}, {attention}",
            f"{what}: seconds an evaluation of a question about {len(rows)} rows",
            time / STEPS,
            "s",
            details={"peak_mb": peak / MEGA, "bound_mb": bound / MEGA},
        )
    yield Result(
        f"joint, {wide.name}, memory",
        f"{what}: memory of a question, over what a pass of {STEPS} evaluations is expected to take",
        max(shares),
        "x",
        goal=1.0,
        samples=shares,
    )


def measured(work: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and bytes at the peak, of one run."""
    with torch.inference_mode(mode=False):
        peak, time = peak_bytes(lambda: seconds(work))
    return time, peak
