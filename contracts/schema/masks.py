"""Masks as requests have them; what they mean is read in `contracts.rules.annotations`."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from contracts.schema.fields import Base64, Number, Schema, one_of

MOST_RUNS = 1 << 20
OTHER_MASK = "a mask is a PNG in base64, run lengths `{size, counts}`, or polygons `[[x0, y0, x1, y1, ...]]`"
Outline = Annotated[list[Number], Field(min_length=6, max_length=20_000, fail_fast=True)]
Polygons = Annotated[list[Outline], Field(min_length=1, max_length=1000, fail_fast=True)]


class RunLengths(Schema):
    """A mask in COCO's run-length encoding, compressed or not."""

    size: tuple[int, int]
    """(height, width)."""
    counts: Annotated[
        str | Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MOST_RUNS, fail_fast=True)],
        one_of(f"COCO's compressed text, or a list of up to {MOST_RUNS} lengths"),
    ]
    """COCO's compressed text, or the lengths of the runs outside and inside in turn, down the columns."""


MASK_FORMS = {str: "(png)", dict: "(rle)", RunLengths: "(rle)", list: "(polygons)"}
Mask = Annotated[
    Annotated[Base64, Tag("(png)")] | Annotated[RunLengths, Tag("(rle)")] | Annotated[Polygons, Tag("(polygons)")],
    Discriminator(lambda mask: MASK_FORMS.get(type(mask)), custom_error_type="mask", custom_error_message=OTHER_MASK),
    Field(
        description="A PNG in base64 (bright pixels belong to the class; of a cut-out the opaque ones; of an indexed PNG the one "
        "index that is not 0) or COCO's run lengths, of the image's size or resized to it by the nearest pixel; or COCO polygons "
        "in the image's pixels."
    ),
]
