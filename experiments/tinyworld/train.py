"""Make the bundled model from nothing: `python -m experiments.tinyworld.train`. Interrupt and start again at will.

Stages, each skipped when its result is there: render the training set, learn a tokenizer, train the autoencoder, encode
the set, train UNet and text encoder together. The last one saves a whole pipeline to --out from time to time.
"""

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer

from experiments.tinyworld import data, denoiser, vae
from experiments.tinyworld.text import new_tokenizer
from experiments.tinyworld.training import launch

PORT = 29517  # on the loopback interface, between the processes of one training


def main(  # noqa: PLR0913, PLR0917 - every choice of the command is an option
    folder: Annotated[Path, typer.Option(help="training set and checkpoints")] = Path("runs/tinyworld"),
    out: Annotated[Path, typer.Option(help="where the pipeline is saved")] = Path("models/tiny"),
    images: Annotated[int, typer.Option(help="scenes in the training set")] = 60_000,
    vae_minutes: Annotated[float, typer.Option(help="budget of the autoencoder")] = 9,
    minutes: Annotated[float, typer.Option(help="budget of UNet and text encoder")] = 100,
    start: Annotated[Path | None, typer.Option(help="a pipeline to go on from, with its autoencoder and tokenizer")] = None,
    recipe: Annotated[str, typer.Option(help=f"of the scenes: {' or '.join(data.RECIPES)}")] = "usual",
    first: Annotated[int, typer.Option(help="seed of the first scene; another one for a further set of scenes")] = 0,
    coarse_attention_dropout: Annotated[
        float, typer.Option(help="fraction of samples whose coarse cross-attention is dropped")
    ] = 0,
    drop_padding: Annotated[
        float, typer.Option(help="fraction of samples whose end and padding tokens are hidden from cross-attention")
    ] = 0,
    batch: Annotated[int, typer.Option(help="samples a step and process")] = 16,
    processes: Annotated[int, typer.Option(help="data-parallel processes; 1 on a GPU")] = 1 if torch.cuda.is_available() else 2,
) -> None:
    """Train, or go on training, until the budgets are used up."""
    if not (folder / "images.npy").exists():
        launch(data.render_shard, processes, PORT, folder, first, images, data.RECIPES[recipe])
    if start is not None:
        for part in ("tokenizer", "vae"):
            shutil.copytree(start / part, folder / part, dirs_exist_ok=True)
    if not (folder / "tokenizer").exists():
        texts = [text for several in data.captions(folder)[:20_000] for text in several]
        new_tokenizer(texts).save_pretrained(folder / "tokenizer")
    if not (folder / "vae").exists():
        launch(vae.train, processes, PORT, folder, vae_minutes * 60, batch // 2)
    if not (folder / "latents.npy").exists():
        launch(vae.encode_all, processes, PORT, folder)
    launch(
        denoiser.train,
        processes,
        PORT,
        folder,
        minutes * 60,
        batch,
        out,
        start,
        denoiser.CaptionDropout(coarse_attention_dropout, drop_padding),
    )


if __name__ == "__main__":
    typer.run(main)
