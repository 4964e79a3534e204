"""What is lost when traces are kept in half precision: `python -m experiments.half_precision`.

One image a class; the heatmap of its word and the mask of that, from the trace as it was captured and as it is kept.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import StableDiffusionPipeline
from jaxtyping import Float
from torch import Tensor

import ovam
from experiments.tinyworld.shapes import CLASS_NAMES

FIRST_SEED = 600_000
GUIDANCE = 3.0
SIZE = (64, 64)
KEPT = (torch.float16, torch.bfloat16)


def heatmap(trace: ovam.Trace, pipeline: StableDiffusionPipeline, name: str) -> Float[Tensor, "height width"]:
    """The heatmap of a class in the image of it."""
    return ovam.word_heatmap(trace, pipeline, f"a photograph of a {name}", name, size=SIZE)


def iou(one: Float[Tensor, "height width"], other: Float[Tensor, "height width"]) -> float:
    """The agreement of two heatmaps' masks, cut as the bundled model's words are."""
    masks = [ovam.binarize(heat, tau=0.5, normalize="minmax") for heat in (one, other)]
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


def main(
    model: Annotated[Path, typer.Option(help="the pipeline")] = Path("models/tiny"),
    steps: Annotated[int, typer.Option(help="UNet evaluations")] = 30,
) -> None:
    """Draw the images and compare."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [f"a photograph of a {name}" for name in CLASS_NAMES]
    generators = [torch.Generator().manual_seed(FIRST_SEED + number) for number in range(len(prompts))]
    with ovam.capture(pipeline) as traces:
        pipeline(prompts, generator=generators, num_inference_steps=steps, guidance_scale=GUIDANCE, output_type="latent")
    exact = [heatmap(trace, pipeline, name) for trace, name in zip(traces, CLASS_NAMES, strict=True)]
    for dtype in KEPT:
        kept = [heatmap(trace.to(dtype=dtype), pipeline, name) for trace, name in zip(traces, CLASS_NAMES, strict=True)]
        pairs = list(zip(kept, exact, strict=True))
        worst = max(float((one - other).abs().max() / other.max()) for one, other in pairs)
        ious = [iou(one, other) for one, other in pairs]
        print(
            f"{dtype}: error at most {worst:.1e} of the maximum; IoU at least {min(ious):.4f}, mean {sum(ious) / len(ious):.4f}"
        )


if __name__ == "__main__":
    typer.run(main)
