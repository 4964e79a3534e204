"""What is compared beside a segment: the same target in another image, and the same image without the target's word."""

from typing import Annotated

from pydantic import Field

from contracts.schema.fields import Artifact, Schema, Text

MAX_CAUSAL = 8
"""Targets whose words may be left out in one job: the image is drawn again for each."""


class Difference(Schema):
    """How a target's heat differs from that in another image, pixel by pixel: this image's less the other's."""

    inside: float | None
    """Its mean on the pixels of either mask; null where there are none."""
    outside: float | None
    """Its mean on the other pixels; null where there are none."""
    total: float
    """The mean of its size, whatever its sign, on all pixels; 0 for equal heat."""
    iou: float
    """Of both masks."""
    npy: Artifact
    """The difference itself, `.npy` of (height, width), float32: signed."""
    picture: Artifact
    """Red where there is more heat than in the other image, blue where there is less, white where as much."""


class CausalOptions(Schema):
    """Draw the image again without each target's word, which must be a word alone, and see what changes."""

    from_evaluation: Annotated[int, Field(ge=0, le=1000)] | Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.5
    """From this evaluation on the UNet gets the prompt without the word: a position from 0, or a fraction of the way. Early ones
    lay out the image, late ones draw what is in it."""
    instead: Text | None = None
    """A word in its place; none without it."""


class CausalChange(Schema):
    """What changed where the image was drawn without the target's word: the mean difference of colours, 0..1."""

    prompt: str
    """What the UNet got from `from_evaluation` on. The image's own if the word is not in it: then nothing changes."""
    inside: float | None
    """In the target's mask; null for an empty one."""
    outside: float | None
    """Elsewhere; null where there is nothing else."""
    image: Artifact
    """The image that was drawn."""
    change: Artifact
    """Each pixel's difference as grey; white is the largest."""


class Causal(Schema):
    """How the image was drawn again."""

    from_evaluation: int
    """Position of the first UNet evaluation without the words."""
    evaluations: int
    redrawn: float
    """Mean difference, 0..1, of the stored image and the one drawn again with its own prompt, with which the others are compared:
    0 on the same device, unless it was drawn in a batch with others."""
