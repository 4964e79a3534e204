"""The world of ten polygon shapes, 64x64."""

from functools import cache, cached_property

import numpy as np

from experiments.evaluation.worlds.hashes import hash_of
from experiments.evaluation.worlds.world import Caption, ClassWords, Labels, Picture, RealImage, Vocabulary
from experiments.tinyworld import annotator as annotating
from experiments.tinyworld.annotator import Annotator, measured
from experiments.tinyworld.captions import caption
from experiments.tinyworld.render import EVALUATION_CAPTIONS, EVALUATION_RENDERS
from experiments.tinyworld.scene import draw, sample
from experiments.tinyworld.shapes import BY_NAME, CLASS_NAMES


class Polygons:
    """Ten classes; scenes of one to three things."""

    name = "polygons"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The classes."""
        return tuple(ClassWords(name, name, BY_NAME[name].synonyms[0]) for name in CLASS_NAMES)

    def label(self, class_name: str) -> int:
        """A class's label."""
        return CLASS_NAMES.index(class_name) + 1

    def caption(self, class_name: str, seed: int) -> Caption:
        """Describe a scene of the class and one or two other things, as the captions of the training do."""
        rng = np.random.default_rng((EVALUATION_CAPTIONS, seed))
        chosen = (class_name, *others(rng, class_name, int(rng.choice([1, 2], p=[0.75, 0.25]))))
        scene = sample(rng, chosen)
        while True:
            text = caption(rng, scene)
            word = mention(class_name, text)
            if word and (word != class_name) == (seed % 2 == 1):
                return Caption(text, word, tuple(filter(None, (mention(name, text) for name in chosen[1:]))))

    def annotate(self, image: Picture) -> Labels:
        """The annotator's labels."""
        return annotator().labels(image[None])[0]

    def annotate_again(self, image: Picture) -> None:
        """There is no second annotator."""

    def annotator_hashes(self) -> tuple[str, ...]:
        """The annotator's hash."""
        return (hash_of(annotating.FOLDER.glob("*.safetensors")),)

    def annotator_errors(self) -> dict[str, float]:
        """The annotator's mIoU on unseen scenes."""
        return {"annotator": measured(annotator())["mIoU"]}

    def real_image(self, class_name: str, seed: int, things: int) -> RealImage:
        """Draw some things."""
        rng = np.random.default_rng((EVALUATION_RENDERS, seed))
        other = others(rng, class_name, things - 1)
        drawing = draw(sample(rng, (class_name, *other)), rng)
        return RealImage(drawing.image, drawing.labels(), other)


@cache
def annotator() -> Annotator:
    """The annotator of this process."""
    return Annotator.load()


def others(rng: np.random.Generator, class_name: str, count: int) -> tuple[str, ...]:
    """Some other classes."""
    return tuple(str(name) for name in rng.choice([name for name in CLASS_NAMES if name != class_name], count, replace=False))


def mention(class_name: str, text: str) -> str:
    """The word by which a caption mentions a class, if it does."""
    words = text.replace(",", "").split()
    return next((word for word in (class_name, *BY_NAME[class_name].synonyms) if word in words), "")
