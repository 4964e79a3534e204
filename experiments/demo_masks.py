"""Paints the masks of the demo: `python -m experiments.demo_masks` writes launcher/masks/.

To be run again whenever the bundled model changes: the masks are of images that it draws.
"""

from PIL import Image

from experiments.bundled import bundle
from launcher.demo import CLASS, CLASS_PROMPT, OTHER, TAUGHT, mask_file


def main() -> None:
    """Generate the demo's images of the class and write where the annotator sees it."""
    ours = bundle()
    for seed in (TAUGHT, OTHER):
        image, _ = ours.generate(CLASS_PROMPT, seed)
        mask = ours.truth(image, CLASS)
        path = mask_file(seed)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(path, optimize=True)
        print(f"{path.name}: {100 * mask.mean():.0f} % of the image")


if __name__ == "__main__":
    main()
