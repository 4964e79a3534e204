"""Make the atlas again: `python -m experiments.world.make_atlas`.

Downloads the pinned packages of classes.json with `npm pack`, draws their icons with resvg (`pip install resvg-py==0.5.0`),
cuts each to its outline and writes one sheet (PNG) a set and index.json into experiments/world/atlas/.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import resvg_py  # pyrefly: ignore[missing-import]
import typer
from numpy.typing import NDArray
from PIL import Image

from experiments.world.atlas import FOLDER, INDEX, Pixels, digest

CLASSES = Path(__file__).parent / "classes.json"
SIDE = 108  # pixels an icon is drawn at; no thing is larger than 102
SHEET = 2048  # pixels across a sheet
SVG = "{http://www.w3.org/2000/svg}"
LEAVES = {SVG + tag for tag in ("path", "circle", "ellipse", "rect", "polygon", "polyline", "line", "use")}
HIDDEN = {SVG + tag for tag in ("defs", "clipPath", "mask", "linearGradient", "radialGradient")}
HUES = {"red": 0, "orange": 14, "yellow": 26, "green": 60, "blue": 106, "purple": 136, "pink": 163}  # OpenCV's half degrees
UNCOLOURED = ("person", "tvmonitor", "pottedplant")  # nobody writes of a yellow person
SAID = {  # the word that people use where the hue says another
    "orange": {"brown": ("horse", "dog", "cow", "chair", "bear", "diningtable", "bird", "snail", "shoe"), "pink": ("pig",)},
    "yellow": {"orange": ("cat",), "brown": ("dog",)},
    "blue": {"purple": ("cat",), "grey": ("cow",)},
}
EDGES = ((7, "red"), (19, "orange"), (34, "yellow"), (84, "green"), (126, "blue"), (150, "purple"), (172, "pink"), (181, "red"))

Icons = dict[str, Any]  # icons.json of a package
Picked = dict[str, tuple[str, Pixels]]  # a sprite's name -> its class and its pixels


def downloaded(name: str, version: str, folder: Path) -> Icons:
    """The icons of a package of npm."""
    pack = ["npm", "pack", "--silent", f"@iconify-json/{name}@{version}"]
    file = subprocess.run(pack, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 (fixed arguments)
    with tarfile.open(folder / file) as archive:
        member = archive.extractfile("package/icons.json")
        if member is None:
            raise ValueError(f"{file} holds no icons.json")
        return json.load(member)


def svg(icons: Icons, name: str) -> str:
    """An icon as a drawing of its own, aliases resolved."""
    if name not in icons["icons"]:
        return svg(icons, icons["aliases"][name]["parent"])
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'


def without(drawing: str, drop: list[int]) -> str:
    """The drawing without some of its leaves (shapes in document order)."""
    root = ET.fromstring(drawing)  # noqa: S314 (pinned packages)
    leaves: list[tuple[ET.Element, ET.Element]] = []

    def walk(parent: ET.Element) -> None:
        for child in parent:
            if child.tag in LEAVES:
                leaves.append((parent, child))
            elif child.tag not in HIDDEN:
                walk(child)

    walk(root)
    for index in drop:
        leaves[index][0].remove(leaves[index][1])
    return ET.tostring(root, encoding="unicode")


def drawn(drawing: str) -> Pixels:
    """A drawing at SIDE pixels, colour 0 where nothing is."""
    png = resvg_py.svg_to_bytes(svg_string=drawing, width=SIDE, height=SIDE)
    pixels = np.array(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
    pixels[pixels[..., 3] < 8] = 0
    return pixels


def cut(pixels: Pixels) -> Pixels:
    """The part of a drawing in which something is."""
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis=axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def potted(plant: Pixels) -> Pixels:
    """A plant in our own pot."""
    canvas = Image.new("RGBA", (SIDE, SIDE))
    small = Image.fromarray(cut(plant))
    small.thumbnail((SIDE * 2 // 3, SIDE * 2 // 3), Image.Resampling.LANCZOS)
    canvas.alpha_composite(small, ((SIDE - small.width) // 2, SIDE * 18 // 25 - small.height))
    canvas.alpha_composite(Image.fromarray(drawn((FOLDER / "own" / "pot.svg").read_text())))
    pixels = np.array(canvas)
    pixels[pixels[..., 3] < 8] = 0
    return pixels


def named(hue: NDArray[np.uint8], saturation: NDArray[np.uint8], value: NDArray[np.uint8]) -> NDArray[np.str_]:
    """The plain colour word of each pixel."""
    words = np.array([next(word for edge, word in EDGES if h < edge) for h in hue.tolist()], dtype="<U8")
    words[(words == "red") & (saturation < 130) & (value > 190)] = "pink"
    words[(words == "pink") & (saturation > 185) & (hue > 162)] = "red"
    words[np.isin(words, ("orange", "yellow", "red")) & (value < 175) & (hue >= 3) & (hue < 34)] = "brown"
    words[saturation < 50] = "grey"
    words[(saturation < 40) & (value > 205)] = "white"
    words[value < 75] = "black"
    return words


def coloured(pixels: Pixels) -> tuple[str | None, int | None, list[str]]:
    """A sprite's main colour, that colour's hue, and the colours it may be painted in instead."""
    inside = pixels[pixels[..., 3] > 127][None, :, :3]
    hue, saturation, value = np.moveaxis(cv2.cvtColor(np.ascontiguousarray(inside), cv2.COLOR_RGB2HSV)[0], -1, 0)
    words, counts = np.unique(named(hue, saturation, value), return_counts=True)
    colour, share = str(words[counts.argmax()]), counts.max() / counts.sum()
    lively = (saturation > 90) & (value > 75)
    main = int(np.bincount(hue[lively], minlength=180).argmax()) if lively.any() else None
    near = lively & (np.abs((hue.astype(int) - (main or 0) + 90) % 180 - 90) < 14)
    if main is None or near.mean() < 0.35 or colour in ("white", "grey", "black"):
        return (colour if share > 0.5 else None), None, []
    bright = np.median(value[near]) > 200
    paints = [word for word in HUES if word != colour and (bright or word not in ("yellow", "orange", "pink"))]
    return (colour if share > 0.45 else None), main, paints


def packed(sprites: dict[str, Pixels]) -> tuple[Pixels, dict[str, list[int]]]:
    """A sheet of sprites, tallest first on shelves, and the box (left, top, width, height) of each."""
    boxes: dict[str, list[int]] = {}
    left = top = shelf = 0
    for name in sorted(sprites, key=lambda n: (-sprites[n].shape[0], n)):
        height, width = sprites[name].shape[:2]
        if left + width > SHEET:
            left, top, shelf = 0, top + shelf, 0
        boxes[name] = [left, top, width, height]
        left, shelf = left + width, max(shelf, height)
    sheet = np.zeros((top + shelf, SHEET, 4), np.uint8)
    for name, (x, y, width, height) in boxes.items():
        sheet[y : y + height, x : x + width] = sprites[name]
    return sheet, boxes


def picked(chosen: dict[str, Any]) -> Picked:
    """Every sprite of classes.json, drawn."""
    found: Picked = {}
    with tempfile.TemporaryDirectory() as folder:
        packs = {name: downloaded(name, version, Path(folder)) for name, version in chosen["packages"].items()}
    for kind, entry in chosen["classes"].items():
        for pack, names in entry["icons"].items():
            for icon in names:
                name = f"{pack}/{icon}"
                drawing = svg(packs[pack], icon) if pack in packs else (FOLDER / "own" / f"{icon}.svg").read_text()
                found[name] = (kind, cut(drawn(without(drawing, chosen["drop"].get(name, [])))))
    for pack, names in chosen["potted"].items():
        for icon in names:
            found[f"{pack}/potted-{icon}"] = ("pottedplant", cut(potted(drawn(svg(packs[pack], icon)))))
    return found


def described(found: Picked, chosen: dict[str, Any], boxes: dict[str, list[int]]) -> dict[str, Any]:
    """What the index says about each sprite."""
    rows = {}
    for name, (kind, pixels) in found.items():
        colour, hue, paints = coloured(pixels)
        entry = chosen["classes"][kind]
        colour = next((word for word, kinds in SAID.get(colour or "", {}).items() if kind in kinds), colour)
        rows[name] = {
            "class": kind,
            "box": boxes[name],
            "colour": None if kind in UNCOLOURED else colour,
            "hue": hue,
            "paints": paints if entry["paintable"] else [],
            "start": name in entry["start"],
            "head": chosen["heads"].get(name),
        }
    return rows


def main(out: Annotated[Path, typer.Option(help="folder to write to")] = FOLDER) -> None:
    """Download, draw, pack, write."""
    chosen = json.loads(CLASSES.read_text())
    found = picked(chosen)
    sheets: dict[str, Pixels] = {}
    boxes: dict[str, list[int]] = {}
    for name in sorted({sprite.split("/")[0] for sprite in found}):
        sheets[name], places = packed({sprite: p for sprite, (_, p) in found.items() if sprite.split("/")[0] == name})
        boxes |= places
        Image.fromarray(sheets[name]).save(out / f"{name}.png", optimize=True)
    index = {
        "classes": {k: {"words": v["words"], "voc": v["voc"]} for k, v in chosen["classes"].items()},
        "held_out": chosen["held_out"],
        "sprites": described(found, chosen, boxes),
    }
    index = {"version": digest(sheets, index), "sets": sorted(sheets), **index}
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in index["sprites"].items())
    head = json.dumps({k: v for k, v in index.items() if k != "sprites"}, indent=1)[:-2]
    (out / INDEX).write_text(f'{head},\n "sprites": {{\n{lines}\n }}\n}}\n')
    typer.echo(f"atlas {index['version']}: {len(found)} sprites in {len(sheets)} sets")


if __name__ == "__main__":
    typer.run(main)
