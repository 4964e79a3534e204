"""The main job from end to end, over HTTP: generate, ask where things are, learn a token, use it on another image."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.client import JobFailed, Record, Service, overlap, png_base64
from experiments.figures import Cell, sheet
from experiments.tinyworld.annotator import Annotator

CLASS = "car"
PROMPT = "a photograph of a red car on the grass"
TARGETS = [
    {"label": "car", "prompt": PROMPT, "word": "car"},
    {"label": "grass", "prompt": PROMPT, "word": "grass"},
    {"label": "automobile", "prompt": "a photograph of an automobile", "word": "automobile"},
    {"label": "wheel", "prompt": "a photograph of a car with a wheel", "word": "wheel"},
]
PLAIN_PROMPT = f"a photograph of a {CLASS}"
SEEDS = range(1, 12)  # tried in turn until the annotator finds the class
ENOUGH = 0.05  # share of the image


Mask = NDArray[np.bool_]  # (height, width)


@dataclass(frozen=True)
class Scene:
    """A generated image and what the annotator sees of the class in it."""

    record: Record
    image: NDArray[np.uint8]
    truth: Mask

    @property
    def seed(self) -> int:
        """The seed of its image."""
        return self.record["result"]["images"][0]["seed"]


def bar(title: str) -> Callable[[Record], None]:
    """A progress bar on standard error, drawn from a job's own events; in a log, one line at the end."""

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


def generate(service: Service, annotator: Annotator, prompt: str, seed: int) -> Scene:
    """One image."""
    body = {"prompt": prompt, "seed": seed}
    record = service.run("generate", body, bar(f"generate, seed {seed}"))
    image = service.picture(record["result"]["images"][0]["image"])
    return Scene(record, image, annotator.mask(image, CLASS))


def scenes(service: Service, annotator: Annotator, prompt: str, wanted: int) -> list[Scene]:
    """The first `wanted` images in which the annotator finds the class, as the paper leaves out images without an object."""
    found: list[Scene] = []
    for seed in SEEDS:
        scene = generate(service, annotator, prompt, seed)
        if scene.truth.mean() > ENOUGH:
            found.append(scene)
        else:
            print(f"   seed {seed}: the annotator sees no {CLASS}, next seed")
        if len(found) == wanted:
            return found
    raise JobFailed(f"no {CLASS} in enough images of seeds {SEEDS[0]} to {SEEDS[-1]}: is the model trained?")


def attribute(service: Service, scene: Scene, targets: list[Record]) -> list[Record]:
    """The segments of some targets in a scene."""
    body = {"job_id": scene.record["id"], "targets": targets}
    return service.run("attribute", body)["result"]["segments"]


def learn(service: Service, scene: Scene, name: str) -> Record:
    """A token learned from one scene and the annotator's mask of it."""
    example = {"job_id": scene.record["id"], "mask": png_base64(scene.truth)}
    body = {"name": name, "classes": [CLASS], "examples": [example]}
    return service.run("optimize", body, bar(f"learn the token {name!r}"))["result"]


def keep(service: Service, out: Path, name: str, segment: Record) -> None:
    """Write a segment's artifacts to `out`."""
    for kind in ("heatmap", "heatmap_npy", "mask", "overlay"):
        artifact = segment[kind]
        (out / f"{name}-{kind}{Path(artifact['name']).suffix}").write_bytes(service.bytes(artifact))


def solid(service: Service, segment: Record) -> Mask:
    """A segment's mask."""
    return service.picture(segment["mask"]) > 127


def grey(mask: Mask) -> NDArray[np.uint8]:
    """A mask as a picture."""
    return mask.astype(np.uint8) * 255


def row(service: Service, title: str, scene: Scene, segment: Record, truth: Mask | None) -> list[Cell]:
    """Image, heatmap, mask and overlay of a segment, the mask with its IoU where truth is known."""
    mask = solid(service, segment)
    note = "" if truth is None else f", IoU {overlap(mask, truth):.2f}"
    return [
        Cell(title, scene.image),
        Cell("heatmap", service.picture(segment["heatmap"]), heat=True),
        Cell(f"mask{note}", grey(mask)),
        Cell("overlay", service.picture(segment["overlay"])),
    ]


def ask_for_words(service: Service, annotator: Annotator, out: Path) -> list[list[Cell]]:
    """Generate an image and look for words of its prompt, and for words it never had; a row of the sheet each."""
    print("1. generate an image, then ask where its words are, and words it never had")
    scene = scenes(service, annotator, PROMPT, 1)[0]
    Image.fromarray(scene.image).save(out / "image.png")
    rows = []
    for target, segment in zip(TARGETS, attribute(service, scene, TARGETS), strict=True):
        keep(service, out, target["word"], segment)
        truth = scene.truth if target["word"] in {CLASS, "automobile"} else None
        unseen = "" if target["word"] in PROMPT else " (not in the prompt)"
        rows.append(row(service, f"{target['word']}{unseen}", scene, segment, truth))
    return rows


def learn_and_apply(service: Service, annotator: Annotator, out: Path) -> list[list[Cell]]:
    """Learn a token from one annotated image and compare it with the word on another; rows of the sheet."""
    print("2. learn a token from one annotated image")
    taught, other = scenes(service, annotator, PLAIN_PROMPT, 2)
    token = learn(service, taught, CLASS)
    print(f"   {token['token']}: best loss {token['best_loss']:.4f} at epoch {token['best_epoch']} of {token['epochs']}")
    print("3. ask another image for the word and for the token")
    Image.fromarray(other.image).save(out / "other.png")
    asked = [{"label": "word", "prompt": PLAIN_PROMPT, "word": CLASS}, {"label": "token", "token": token["token"]}]
    rows = [
        [
            Cell(f"seed {taught.seed}, learned from", taught.image),
            Cell("its annotation", grey(taught.truth)),
            Cell(f"seed {other.seed}, applied to", other.image),
            Cell("the annotator's mask of it", grey(other.truth)),
        ]
    ]
    for target, segment in zip(asked, attribute(service, other, asked), strict=True):
        keep(service, out, f"other-{target['label']}", segment)
        print(f"   {target['label']:5s} IoU {overlap(solid(service, segment), other.truth):.3f} against the annotator")
        rows.append(row(service, f"{CLASS}, by {target['label']}", other, segment, other.truth))
    return rows


def main(url: str, out: Path) -> None:
    """Run the demo against the service at `url`; JobFailed says what went wrong."""
    out.mkdir(parents=True, exist_ok=True)
    annotator = Annotator.load()
    with httpx2.Client(base_url=url, timeout=120) as http:
        service = Service(http)
        rows = [*ask_for_words(service, annotator, out), *learn_and_apply(service, annotator, out)]
    sheet(rows, out / "sheet.png")
    print(f"wrote {out / 'sheet.png'} and {len(list(out.iterdir())) - 1} more files beside it")
