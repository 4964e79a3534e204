"""The bundled model and both annotators within minutes: `python -m experiments.world.model.on_gpu --seconds 560 --out model`.

For a machine with one GPU and many cores, unattended. While the autoencoder learns from a few scenes, the cores draw the many
that UNet and text encoder learn from; the annotators learn beside these. What comes out is in files of at most 16 MB: OUT/model,
a pipeline, and OUT/annotators.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import torch.multiprocessing as mp
import typer
from transformers import CLIPTokenizer

from experiments.world.annotator import NETS
from experiments.world.model import autoencoder_training, data, denoiser
from experiments.world.model.__main__ import prepare
from experiments.world.model.training import Plan

SPARE = 25  # seconds at the end, to write everything down
BEGIN = time.monotonic()


def log(what: str) -> None:
    """Say what is done, and when."""
    print(f"[{time.monotonic() - BEGIN:.0f} s] {what}", flush=True)


def paint(folder: Path, recipe: str, images: int, first: int) -> None:
    """Draw a training set, with its captions' token ids."""
    prepare(folder, recipe, images, first, None)
    data.token_ids(folder, CLIPTokenizer.from_pretrained(folder / "tokenizer"))
    log(f"drew {images} scenes")


def annotate(kind: str, steps: int, vae: Path, work: Path, out: Path) -> subprocess.Popen[bytes]:
    """Begin to train an annotator."""
    module = [sys.executable, "-m", "experiments.world.annotator_training", "--kind", kind, "--steps", str(steps)]
    with (out / f"{kind}.log").open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - our own module
            [*module, "--vae", str(vae), "--work", str(work), "--out", str(out)], stdout=file, stderr=subprocess.STDOUT
        )


def main(  # noqa: PLR0913, PLR0917 - every choice of the command is an option
    out: Annotated[Path, typer.Option(help="folder to write model/ and annotators/ to")],
    work: Annotated[Path, typer.Option(help="folder of training sets and checkpoints, for a new run")] = Path("runs/gpu"),
    seconds: Annotated[float, typer.Option(help="in all, from now on")] = 560,
    recipe: Annotated[str, typer.Option(help=f"of the scenes: {' or '.join(data.RECIPES)}")] = "both",
    images: Annotated[int, typer.Option(help="scenes that UNet and text encoder learn from")] = 240_000,
    few: Annotated[int, typer.Option(help="scenes that the autoencoder learns from")] = 24_000,
    vae_seconds: Annotated[float, typer.Option(help="of the autoencoder's training")] = 75,
    steps: Annotated[int, typer.Option(help="of an annotator")] = 2500,
    batch: Annotated[int, typer.Option(help="samples a step of UNet and text encoder")] = 512,
    rate: Annotated[float, typer.Option(help="peak of Muon's learning rate; AdamW has half of it")] = 2e-3,
    size: Annotated[str, typer.Option(help="of the model: small or large")] = "large",
) -> None:
    """Train everything, and end in time."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.suppress_errors = True  # noqa: SLF001 - what cannot be compiled is run as it is
    small, large, annotators = work / "few", work / "many", out / "annotators"
    annotators.mkdir(parents=True, exist_ok=True)
    prepare(small, recipe, few, images, None)  # numbers after those of the large set
    log(f"drew {few} scenes")
    painting = mp.get_context("spawn").Process(target=paint, args=(large, recipe, images, 0))
    painting.start()
    gpu = torch.cuda.is_available()
    autoencoder_training.train(0, 1, small, autoencoder_training.plan(vae_seconds), autoencoder_training.sizes(gpu=gpu), size)
    log("trained the autoencoder")
    judges = [annotate(kind, steps, small / "vae", work, annotators) for kind in NETS]
    painting.join()
    if painting.exitcode:
        raise SystemExit(f"The painters ended with {painting.exitcode}.")
    shutil.copytree(small / "vae", large / "vae", dirs_exist_ok=True)
    autoencoder_training.encode_all(0, 1, large)
    log("encoded all scenes")
    left = max(10.0, seconds - SPARE - (time.monotonic() - BEGIN))
    denoiser.train(0, 1, large, Plan(left, rate=rate, rest=rate / 2), batch, out / "model", None, size)
    log("trained UNet and text encoder")
    for judge in judges:
        judge.wait(max(1.0, seconds - (time.monotonic() - BEGIN)))
    log("trained the annotators")


if __name__ == "__main__":
    typer.run(main)
