"""Paints the masks of the demo: `python -m experiments.demo_masks` writes launcher/masks/.

To be run again whenever the bundled model changes: the masks are of images that it draws.
"""

import json

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from experiments.tinyworld.annotator import Annotator
from launcher.demo import CLASS, CLASS_PROMPT, OTHER, TAUGHT, mask_file
from worker.settings import BUNDLED


def main() -> None:
    """Draw the demo's images of the class and write where the annotator sees it."""
    scale = json.loads((BUNDLED / "ovam.json").read_text())["default_guidance_scale"]
    pipeline = StableDiffusionPipeline.from_pretrained(BUNDLED, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    annotator = Annotator.load()
    for seed in (TAUGHT, OTHER):
        generator = torch.Generator().manual_seed(seed)
        image = pipeline(CLASS_PROMPT, guidance_scale=scale, num_inference_steps=30, generator=generator).images[0]
        mask = annotator.mask(np.asarray(image), CLASS)
        path = mask_file(seed)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(path, optimize=True)
        print(f"{path.name}: {100 * mask.mean():.0f} % of the image")


if __name__ == "__main__":
    main()
