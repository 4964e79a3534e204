"""Train the bundled model: `python -m experiments.world.model --minutes 100`. Interrupt and start again at will.

Stages, each skipped when its result is there: draw the training set, make the tokenizer, train the autoencoder, encode the
set, train UNet and text encoder together. The last one saves a whole pipeline to --out from time to time. The same command
does it on a GPU, in one process and bfloat16.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from experiments.world.atlas import AtlasError
from experiments.world.model import autoencoder_training, data, denoiser
from experiments.world.model.parallel import launch
from experiments.world.model.text import new_tokenizer
from experiments.world.model.training import CheckpointError, Plan

PORT = 29517  # on the loopback interface, between the processes of one training
GPU = torch.cuda.is_available()


def main(  # noqa: PLR0913, PLR0917 - every choice of the command is an option
    folder: Annotated[Path, typer.Option(help="training set and checkpoints")] = Path("runs/world"),
    out: Annotated[Path, typer.Option(help="where the pipeline is saved")] = Path("runs/world/model"),
    recipe: Annotated[str, typer.Option(help=f"of the scenes: {' or '.join(data.RECIPES)}")] = "start",
    images: Annotated[int, typer.Option(help="scenes in the training set")] = 40_000,
    first: Annotated[int, typer.Option(help="number of the first scene; another one for a further set of scenes")] = 0,
    vae_minutes: Annotated[float, typer.Option(help="budget of the autoencoder")] = 25,
    minutes: Annotated[float, typer.Option(help="of UNet and text encoder: each process's own work")] = 80,
    decoder_minutes: Annotated[float, typer.Option(help="budget of the decoder alone, on top; latents stay as they are")] = 0,
    start: Annotated[Path | None, typer.Option(help="a pipeline to go on from, with its autoencoder and tokenizer")] = None,
    size: Annotated[str, typer.Option(help="of an untrained model: small or large")] = "large" if GPU else "small",
    batch: Annotated[int, typer.Option(help="samples a step and process")] = 256 if GPU else 16,
    rate: Annotated[float, typer.Option(help="peak of Muon's learning rate; AdamW has half of it")] = 2e-3,
    decay_from: Annotated[float, typer.Option(help="share of the budget after which the learning rate falls")] = 0.5,
    processes: Annotated[int, typer.Option(help="data-parallel processes; 1 on a GPU")] = 1 if GPU else 2,
) -> None:
    """Train, or go on training, until the budgets are used up."""
    try:
        prepare(folder, recipe, images, first, start)
        if not (folder / "vae").exists():
            crops, course = autoencoder_training.sizes(gpu=GPU), autoencoder_training.plan(vae_minutes * 60)
            launch(autoencoder_training.train, processes, PORT, folder, course, crops, size)
        if decoder_minutes:
            whole = replace(autoencoder_training.sizes(gpu=GPU), widen_at=0)
            launch(autoencoder_training.sharpen, processes, PORT, folder, Plan(decoder_minutes * 60, rate=1e-3, rest=5e-4), whole)
        if data.ready(folder) < images:
            launch(autoencoder_training.encode_all, processes, PORT, folder)
        plan = Plan(minutes * 60, rate=rate, rest=rate / 2, decay_from=decay_from)
        launch(denoiser.train, processes, PORT, folder, plan, batch, out, start, size)
    except (AtlasError, CheckpointError, data.DatasetError) as error:
        raise SystemExit(f"{error}") from error


def prepare(folder: Path, recipe: str, images: int, first: int, start: Path | None) -> None:
    """The training set and the tokenizer; with `start`, its tokenizer and autoencoder."""
    if recipe not in data.RECIPES:
        raise data.DatasetError(f"no recipe {recipe!r}; there are {', '.join(data.RECIPES)}")
    if not (folder / "images.npy").exists():
        painters = min(16, os.cpu_count() or 1)
        launch(data.render_shard, painters, PORT, folder, first, images, recipe)
    data.marks(folder)
    if start is not None:
        for part in ("tokenizer", "vae"):
            shutil.copytree(start / part, folder / part, dirs_exist_ok=True)
    if not (folder / "tokenizer").exists():
        new_tokenizer().save_pretrained(folder / "tokenizer")


if __name__ == "__main__":
    typer.run(main)
