"""Trained networks as folders that transformers loads, and pictures segmented by one."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from transformers import ResNetBackbone, SwinBackbone
from transformers.utils import logging

from experiments.networks.examples import VOC
from experiments.networks.nets import KINDS, STAGES, Backbone, Kind, Network, processor_of
from experiments.networks.training import segmented
from ovam.core.export import Annotation, Datasheet, Sample, Split, Voc, export, into_folder

MARK = "network.json"
"""In a network's folder: which of Table 3's it is, and the side of the squares that it sees."""
FAMILIES: Mapping[Backbone, type] = {"ResNet": ResNetBackbone, "Swin": SwinBackbone}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class NoNetworkError(Exception):
    """A folder that is no trained network, or no pictures; the message says what is missing."""


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    net: Network
    kind: Kind
    side: int


def save(net: Network, network: str, side: int, folder: Path) -> None:
    """Write a network as safetensors with its configuration and the processor of its images, all or nothing."""
    logging.disable_progress_bar()
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    net.save_pretrained(beside)
    processor_of(KINDS[network], side).save_pretrained(beside)
    (beside / MARK).write_text(json.dumps({"network": network, "side": side}) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)


def load(folder: Path) -> Trained:
    """A network that was saved. NoNetworkError for another folder."""
    if not (folder / MARK).is_file():
        raise NoNetworkError(
            f"{folder} is no trained network: it has no {MARK}; `python -m experiments export-network` writes one"
        )
    logging.disable_progress_bar()
    told = json.loads((folder / MARK).read_text())
    kind = KINDS[told["network"]]
    try:
        return Trained(kind.family.from_pretrained(folder), kind, told["side"])
    except (OSError, RuntimeError) as error:
        raise NoNetworkError(f"the network in {folder} does not load: {error}") from error


def save_backbone(backbone: Network, folder: Path) -> None:
    """Write a backbone as safetensors with its configuration, all or nothing."""
    logging.disable_progress_bar()
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    backbone.save_pretrained(beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)


def load_backbone(name: Backbone, source: Path | str) -> Network:
    """A backbone that was saved, or one of the hub's. NoNetworkError if it does not load."""
    logging.disable_progress_bar()
    try:
        return FAMILIES[name].from_pretrained(source, out_features=STAGES)
    except (OSError, ValueError, RuntimeError) as error:
        raise NoNetworkError(f"the backbone {source} does not load: {error}") from error


def copied(weights: Path, folder: Path, about: str) -> None:
    """Write a trained network into a new folder, with a card. NoNetworkError if it is not trained yet, or the folder is there."""
    if not (weights / MARK).is_file():
        raise NoNetworkError(f"{weights} is not there: `python -m experiments table3` trains it")
    if folder.exists():
        raise NoNetworkError(f"{folder} is there already; allowed: a new folder")
    shutil.copytree(weights, folder)
    (folder / "README.md").write_text(about)


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, by name. NoNetworkError if there are none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise NoNetworkError(f"{folder} has no pictures; allowed: a folder with files that end in {', '.join(SUFFIXES)}")
    return found


def segment(found: list[Path], trained: Trained, out: Path) -> int:
    """Segment pictures, and write them as a data set of Pascal VOC's form with a contact sheet; returns how many files."""
    about = Datasheet(title="Pictures segmented by a trained network", model=type(trained.net).__name__)
    samples = (sample(path, trained) for path in found)
    return into_folder(export(samples, Voc(), VOC, split=Split(validation=0.0), about=about), out)


def sample(path: Path, trained: Trained) -> Sample:
    """A picture and the classes that are found in it."""
    with Image.open(path) as opened:
        image = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    (labels,) = segmented(trained.net, trained.kind.scores, [image], trained.side)
    return Sample(path.stem, image, list(annotations(labels)), metadata={"file": path.name})


def annotations(labels: np.ndarray) -> Iterator[Annotation]:
    """The classes of a map of labels."""
    for number in np.unique(labels).tolist():
        if number:
            yield Annotation(VOC[number - 1], labels == number)
