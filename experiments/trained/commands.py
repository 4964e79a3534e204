"""The commands that train networks: `python -m experiments train-grounded-diffusion`, `... train-datasetdm`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ovam
from experiments.bundled import bundle
from experiments.trained import courses, teacher
from experiments.trained.cache import Cached, cached, inputs_of_datasetdm, inputs_of_grounded_diffusion
from experiments.trained.training import RECENT, Loss, Schedule, Training
from experiments.world import atlas
from ovam.attention.targets import photograph_of
from ovam.trained.datasetdm import DatasetDM, DatasetDMSizes
from ovam.trained.grounded_diffusion import GroundedDiffusion, GroundedDiffusionSizes
from ovam.trained.networks import FOLDER, SUFFIX, Card, Network

TEACHER = "renders of the world and their exact masks; no annotator, no generated image"
VIEWS = 4
"""Pieces of each of DatasetDM's annotated images."""
CONSTANT = "aeroplane"
"""What the published training of DatasetDM calls every class."""


def train_grounded_diffusion(model: Path, work: Path, schedule: Schedule, *, split: int, examples: int, seed: int) -> Path:
    """Train Grounded Diffusion on one of its splits, and write it beside the model."""
    pipeline, seen = bundle(model).pipeline, teacher.seen_of(split)
    inputs = inputs_of_grounded_diffusion(pipeline.unet)
    found = cached(pipeline, inputs, partial(teacher.grounded, classes=seen), examples, teacher.VOC, work / "features")
    told = {"split": split, "seen": seen, "unseen": teacher.SPLITS[split], "examples": examples, "steps": schedule.steps}
    sizes = GroundedDiffusionSizes(channels_of(found), width_of(pipeline))
    card = Card("grounded-diffusion", asdict(sizes), inputs.blocks, training={"teacher": TEACHER, **told})
    network = new(card, pipeline, seed)
    rows = rows_of(network, pipeline)
    module = network.module
    if not isinstance(module, GroundedDiffusion):
        raise TypeError(module)
    loss = courses.of_grounded_diffusion(module, found, rows)
    return trained(network, loss, Training(module, schedule, work / f"split-{split}.pt", seed), model, "grounded-diffusion")


def train_datasetdm(model: Path, work: Path, schedule: Schedule, *, published: bool, seed: int) -> Path:
    """Train DatasetDM on five renders of every class, and write it beside the model.

    `published`: with the published training's fault, in which every class is called "aeroplane".
    """
    pipeline, name = bundle(model).pipeline, "datasetdm-published" if published else "datasetdm"
    inputs, count = inputs_of_datasetdm(pipeline.unet), teacher.IMAGES_A_CLASS * len(teacher.VOC) * VIEWS
    draw = partial(teacher.perceived, classes=teacher.VOC, views=VIEWS)
    found = cached(pipeline, inputs, draw, count, teacher.VOC, work / "features")
    told = {"classes": teacher.VOC, "images a class": teacher.IMAGES_A_CLASS, "views": VIEWS, "steps": schedule.steps}
    words = tuple(word for one in teacher.VOC for word in atlas.load().kind(one).words)
    sizes = DatasetDMSizes(channels_of(found), width_of(pipeline))
    teaching = {"teacher": TEACHER, "text": f"always {CONSTANT!r}, as published" if published else "the class's name", **told}
    network = new(Card("datasetdm", asdict(sizes), inputs.blocks, inputs.attentions, words, teaching), pipeline, seed)
    rows = rows_of(network, pipeline)
    if published:
        rows = rows[teacher.VOC.index(CONSTANT)].expand_as(rows)
    module = network.module
    if not isinstance(module, DatasetDM):
        raise TypeError(module)
    loss = courses.of_datasetdm(module, found, rows)
    return trained(network, loss, Training(module, schedule, work / f"{name}.pt", seed), model, name)


def new(card: Card, pipeline: Any, seed: int) -> Network:  # noqa: ANN401 - a pipeline
    """An untrained network of a model."""
    torch.manual_seed(seed)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    trace = ovam.trace_image(pipeline, np.zeros((side, side, 3), np.uint8), timesteps=[0])
    return Network.new(card, trace)


def rows_of(network: Network, pipeline: Any) -> Tensor:  # noqa: ANN401 - a pipeline
    """The text of every class, as the network takes it."""
    return torch.stack([network.row(pipeline, photograph_of(teacher.word_of(name))) for name in teacher.VOC])


def trained(network: Network, loss: Loss, training: Training, model: Path, name: str) -> Path:
    """Train what is not yet, and write the network with its card."""
    training.run(loss)
    network.card.training["loss"] = round(float(np.mean(training.losses[-RECENT:])), 4)
    file = model / FOLDER / f"{name}{SUFFIX}"
    network.save(file)
    print(f"wrote {file}, {file.stat().st_size / 1e6:.1f} MB", flush=True)
    return file


def channels_of(examples: Cached) -> tuple[int, ...]:
    """The channels of every level."""
    return tuple(level.shape[1] for level in examples.levels)


def width_of(pipeline: Any) -> int:  # noqa: ANN401 - a pipeline
    """The length of a text embedding's rows."""
    return int(pipeline.unet.config.cross_attention_dim)
