"""The main job over HTTP: generate, ask where things are, learn a token, use it on another image."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from launcher.client import Record, Service, png_base64
from launcher.sheet import Cell, sheet

PROMPT = "a photograph of a red car on the grass"
SEED = 1
TARGETS = [
    {"label": "car", "prompt": PROMPT, "word": "car"},
    {"label": "grass", "prompt": PROMPT, "word": "grass"},
    {"label": "automobile", "prompt": "a photograph of an automobile", "word": "automobile"},
]
CLASS = "car"
CLASS_PROMPT = f"a photograph of a {CLASS}"
TAUGHT, OTHER = 1, 3  # seeds of the images that a token is learned from and applied to
MASKS = Path(__file__).with_name("masks")  # of those two images; `python -m experiments.demo_masks` writes them

Mask = NDArray[np.bool_]  # (height, width)


@dataclass(frozen=True)
class Scene:
    """A generated image and its job."""

    job_id: str
    seed: int
    image: NDArray[np.uint8]


def mask_file(seed: int) -> Path:
    """Return the path of the mask of the class in the image of a seed."""
    return MASKS / f"{CLASS}-{seed}.png"


def true_mask(seed: int) -> Mask:
    """Read the mask of the class in the image of a seed."""
    with Image.open(mask_file(seed)) as file:
        return np.array(file.convert("1"))


def bar(title: str) -> Callable[[Record], None]:
    """Return a function that draws a job's progress on standard error: a bar, or in a log one line at the end."""

    def draw(progress: Record) -> None:
        done, total = progress["done"], progress["total"]
        filled = round(30 * done / total)
        loss = f"  loss {progress['loss']:.4f}" if progress.get("loss") is not None else ""
        line = f"   {title:24s} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total} {progress['unit']}s{loss}"
        if done == total:
            print(f"\r{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
        elif sys.stderr.isatty():
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    return draw


def generate(service: Service, prompt: str, seed: int) -> Scene:
    """Generate an image."""
    record = service.run("generate", {"prompt": prompt, "seed": seed}, bar(f"generate, seed {seed}"))
    return Scene(record["id"], seed, service.picture(record["result"]["images"][0]["image"]))


def attribute(service: Service, scene: Scene, targets: list[Record]) -> list[Record]:
    """Ask for the segments of some targets in a scene."""
    return service.run("attribute", {"job_id": scene.job_id, "targets": targets})["result"]["segments"]


def learn(service: Service, scene: Scene, mask: Mask) -> Record:
    """Learn a token of the class from one scene and its mask."""
    example = {"job_id": scene.job_id, "mask": png_base64(mask)}
    body = {"name": CLASS, "classes": [CLASS], "examples": [example]}
    return service.run("optimize", body, bar(f"learn the token {CLASS!r}"))["result"]


def keep(service: Service, out: Path, name: str, segment: Record) -> None:
    """Write a segment's artifacts to `out`."""
    for kind in ("heatmap", "heatmap_npy", "mask", "overlay"):
        artifact = segment[kind]
        (out / f"{name}-{kind}{Path(artifact['name']).suffix}").write_bytes(service.bytes(artifact))


def overlap(one: Mask, other: Mask) -> float:
    """Return the intersection over union of two masks; 1 if both are empty."""
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union


def grey(mask: Mask) -> NDArray[np.uint8]:
    """Turn a mask into a picture."""
    return mask.astype(np.uint8) * 255


def row(service: Service, title: str, scene: Scene, segment: Record, truth: Mask | None = None) -> list[Cell]:
    """Return a row of the sheet: image, heatmap, mask (with its IoU where the truth is known) and overlay."""
    mask = service.mask(segment)
    note = "" if truth is None else f", IoU {overlap(mask, truth):.2f}"
    return [
        Cell(title, scene.image),
        Cell("heatmap", service.picture(segment["heatmap"]), heat=True),
        Cell(f"mask{note}", grey(mask)),
        Cell("overlay", service.picture(segment["overlay"])),
    ]


def ask_for_words(service: Service, out: Path) -> list[list[Cell]]:
    """Generate an image and look for words in it, one of which is not in its prompt."""
    print("1. generate an image, then ask for words of its prompt and for one that is not in it")
    scene = generate(service, PROMPT, SEED)
    Image.fromarray(scene.image).save(out / "image.png")
    rows = []
    for target, segment in zip(TARGETS, attribute(service, scene, TARGETS), strict=True):
        keep(service, out, target["word"], segment)
        unseen = "" if target["word"] in PROMPT.split() else " (not in the prompt)"
        rows.append(row(service, f"{target['word']}{unseen}", scene, segment))
        print(f"   {target['word'] + unseen:30s} {100 * service.mask(segment).mean():3.0f} % of the image")
    return rows


def learn_and_apply(service: Service, out: Path) -> list[list[Cell]]:
    """Learn a token from one annotated image and compare it with the word on another."""
    print("2. learn a token from one annotated image")
    taught, other = generate(service, CLASS_PROMPT, TAUGHT), generate(service, CLASS_PROMPT, OTHER)
    token = learn(service, taught, true_mask(TAUGHT))
    print(f"   {token['token']}: best loss {token['best_loss']:.4f} at epoch {token['best_epoch']} of {token['epochs']}")
    print("3. ask for the word and for the token in another image")
    Image.fromarray(other.image).save(out / "other.png")
    truth = true_mask(OTHER)
    targets = [{"label": "word", "prompt": CLASS_PROMPT, "word": CLASS}, {"label": "token", "token": token["token"]}]
    rows = [
        [
            Cell(f"seed {TAUGHT}, learned from", taught.image),
            Cell("its mask", grey(true_mask(TAUGHT))),
            Cell(f"seed {OTHER}, applied to", other.image),
            Cell("its mask", grey(truth)),
        ]
    ]
    for target, segment in zip(targets, attribute(service, other, targets), strict=True):
        keep(service, out, f"other-{target['label']}", segment)
        print(f"   {target['label']:5s} IoU {overlap(service.mask(segment), truth):.3f}")
        rows.append(row(service, f"{CLASS}, by {target['label']}", other, segment, truth))
    return rows


def main(url: str, out: Path) -> None:
    """Run the demo against the service at `url` and write its pictures to `out`. Raises JobFailedError."""
    out.mkdir(parents=True, exist_ok=True)
    with httpx2.Client(base_url=url, timeout=120) as http:
        service = Service(http)
        rows = [*ask_for_words(service, out), *learn_and_apply(service, out)]
    sheet(rows, out / "sheet.png")
    print(f"wrote {out / 'sheet.png'} and {len(list(out.iterdir())) - 1} more files beside it")
