"""What the golden files hold, and how to make them again: `python -m tests.golden.recipe`.

Make them again only when the bundled model is replaced; a change of the code must not need it.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

import ovam
from ovam.learning.initial import initial_tokens
from worker.settings import BUNDLED

FOLDER = Path(__file__).parent
MODEL = BUNDLED
PROMPT, WORDS = "a photograph of a red car on the grass", ("car", "grass", "red")
STEPS, SEED = 8, 7


def results() -> dict[str, np.ndarray]:
    """An image, the heatmaps of three words, and a token after 20 epochs, of the bundled model."""
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    with ovam.capture(pipeline) as traces:
        answer = pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=3.0, generator=generator, output_type="np")
    (trace,) = traces
    found = {word: ovam.word_heatmap(trace, pipeline, PROMPT, word).numpy() for word in WORDS}
    left_half = torch.zeros(trace.image_size)
    left_half[:, : trace.image_size[1] // 2] = 1
    fit = ovam.optimize_tokens([(trace, left_half)], initial_tokens(pipeline, "car"), epochs=20, optimizer="adam")
    return {"image": answer.images[0].astype(np.float32), **found, "losses": np.array(fit.losses, np.float32)}


if __name__ == "__main__":
    np.savez_compressed(FOLDER / "bundled.npz", **results())
