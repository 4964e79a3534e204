"""The worlds of bundled models. This module alone decides which world a model is of."""

import json
from functools import cache
from pathlib import Path

from experiments.evaluation.worlds.world import World

POLYGON_SIZE = 64  # pixels of the images of the polygon world's model


@cache
def world_of(model: Path) -> World:
    """The world that a model draws, by the size of its images."""
    if image_size(model) == POLYGON_SIZE:
        from experiments.evaluation.worlds.polygons import Polygons  # noqa: PLC0415  # one world is loaded

        return Polygons()
    from experiments.evaluation.worlds.emoji import Emoji  # noqa: PLC0415

    return Emoji()


def image_size(model: Path) -> int:
    """The side of a model's images in pixels."""
    unet, autoencoder = (json.loads((model / part / "config.json").read_text()) for part in ("unet", "vae"))
    return unet["sample_size"] << (len(autoencoder["block_out_channels"]) - 1)
