"""The worlds of bundled models. This module alone decides which world a model is of."""

import json
from functools import cache
from pathlib import Path

from experiments.evaluation.worlds.world import World

MARK = "world.json"
"""In the folder of a model: the atlas that it was trained on."""
POLYGON_SIZE = 64  # pixels of the images of the polygon world's model


@cache
def world_of(model: Path) -> World:
    """The world that a model draws: polygons on 64x64 pixels, or open art. WorldError if its atlas is not today's."""
    if image_size(model) == POLYGON_SIZE:
        from experiments.evaluation.worlds.polygons import Polygons  # noqa: PLC0415  # one world is loaded

        return Polygons()
    from experiments.evaluation.worlds.emoji import RECIPES, Emoji, check_atlas  # noqa: PLC0415

    mark = json.loads((model / MARK).read_text()) if (model / MARK).is_file() else {}
    if "atlas" in mark:
        check_atlas(mark["atlas"])
    return Emoji(RECIPES[mark.get("recipe", "start")])


def image_size(model: Path) -> int:
    """The side of a model's images in pixels."""
    unet, autoencoder = (json.loads((model / part / "config.json").read_text()) for part in ("unet", "vae"))
    return unet["sample_size"] << (len(autoencoder["block_out_channels"]) - 1)
