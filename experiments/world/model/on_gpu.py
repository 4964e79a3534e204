"""Train the bundled model and both annotators on a GPU: `python -m experiments.world.model.on_gpu --seconds 690 --out runs/new`.

Runs unattended and ends in time. While the autoencoder learns from a few scenes, the processor's cores draw the many that UNet
and text encoder learn from; the annotators learn beside these. It writes OUT/model, a pipeline in files of at most 16 MB, and
OUT/annotators.
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

RECIPE = "both"  # of the scenes
BATCH = 512  # samples a step of UNet and text encoder
RATE = 2e-3  # peak of Muon's learning rate; AdamW has half of it
SPARE = 25  # seconds at the end, to write everything down
BEGIN = time.monotonic()


def log(what: str) -> None:
    """Say what is done, and when."""
    print(f"[{time.monotonic() - BEGIN:.0f} s] {what}", flush=True)


def paint(folder: Path, images: int) -> None:
    """Draw a training set, with its captions' token ids."""
    prepare(folder, RECIPE, images, 0, None)
    data.token_ids(folder, CLIPTokenizer.from_pretrained(folder / "tokenizer"))
    log(f"drew {images} scenes")


def annotate(kind: str, steps: int, vae: Path, work: Path, out: Path) -> subprocess.Popen[bytes]:
    """Begin to train an annotator."""
    module = [sys.executable, "-m", "experiments.world.annotator_training", "--kind", kind, "--steps", str(steps)]
    with (out / f"{kind}.log").open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - this program's own command
            [*module, "--vae", str(vae), "--work", str(work), "--out", str(out)], stdout=file, stderr=subprocess.STDOUT
        )


def main(
    out: Annotated[Path, typer.Option(help="folder to write model/ and annotators/ to")],
    work: Annotated[Path, typer.Option(help="folder of training sets and checkpoints, for a new run")] = Path("runs/gpu"),
    seconds: Annotated[float, typer.Option(help="in all, from now on")] = 690,
    images: Annotated[int, typer.Option(help="scenes that UNet and text encoder learn from")] = 240_000,
    few: Annotated[int, typer.Option(help="scenes that the autoencoder learns from")] = 24_000,
    vae_seconds: Annotated[float, typer.Option(help="of the autoencoder's training")] = 75,
    steps: Annotated[int, typer.Option(help="of an annotator")] = 2500,
    size: Annotated[str, typer.Option(help="of the model: small or large")] = "large",
) -> None:
    """Train everything, and end in time."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.suppress_errors = True  # noqa: SLF001 - its public switch: what cannot be compiled runs as it is
    small, large, annotators = work / "few", work / "many", out / "annotators"
    annotators.mkdir(parents=True, exist_ok=True)
    prepare(small, RECIPE, few, images, None)  # numbers after those of the large set
    log(f"drew {few} scenes")
    painting = mp.get_context("spawn").Process(target=paint, args=(large, images))
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
    denoiser.train(0, 1, large, Plan(left, rate=RATE, rest=RATE / 2), BATCH, out / "model", None, size)
    log("trained UNet and text encoder")
    for judge in judges:
        judge.wait(max(1.0, seconds - (time.monotonic() - BEGIN)))
    log("trained the annotators")


if __name__ == "__main__":
    typer.run(main)
