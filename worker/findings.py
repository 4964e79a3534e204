"""What was found of the targets: masks, files, and what the answer says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

import ovam
from contracts.attribution import InstanceOptions, Region, Segment, SemanticMap, SemanticOptions, Split, SplitMaps
from contracts.fields import Artifact, Rle
from contracts.store import File
from worker.questions import Question
from worker.rendering import grey, npy, overlay, png

BINARY = "application/octet-stream"
BACKGROUND, UNSURE = "background", "unsure"  # what the labels 0 and 255 are called

Artifacts = Mapping[str, Artifact]


@dataclass(frozen=True, eq=False)
class Heat:
    """Where a target is hot."""

    heatmap: Float[Tensor, "height width"]
    """At the size of the image."""
    refined: Float[Tensor, "height width"]
    """What the method's threshold cuts."""
    parts: Mapping[Split, ovam.SplitHeatmaps]


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found of one target."""

    question: Question
    number: int
    score: float
    region: Region
    instances: list[Region] | None
    parts: Mapping[Split, ovam.SplitHeatmaps]
    files: tuple[File, ...]

    def segment(self, artifacts: Artifacts) -> Segment:
        """What the answer says of it."""
        return Segment(
            **dict(self.region),
            target=self.question.target,
            method=self.question.name,
            settings=self.question.settings,
            score=self.score,
            heatmap=artifacts[f"heatmap-{self.number}.png"],
            heatmap_npy=artifacts[f"heatmap-{self.number}.npy"],
            refined_npy=artifacts.get(f"refined-{self.number}.npy"),
            mask=artifacts[f"mask-{self.number}.png"],
            overlay=artifacts[f"overlay-{self.number}.png"],
            maps=[
                SplitMaps(by=by, parts=list(split.names), terms=list(split.terms), file=artifacts[maps_file(self.number, by)])
                for by, split in self.parts.items()
            ],
            instances=self.instances,
        )


def finding_of(
    number: int,
    question: Question,
    heat: Heat,
    image: UInt8[np.ndarray, "height width 3"],
    instances: InstanceOptions | None,
) -> Finding:
    """Make a mask of a target's heat, and files of both."""
    mask = ovam.cut(question.method, heat.refined, image)
    values = heat.heatmap.numpy()
    files = (
        File(f"heatmap-{number}.png", "image/png", png(grey(values))),
        File(f"heatmap-{number}.npy", BINARY, npy(values)),
        File(f"mask-{number}.png", "image/png", png(mask.astype(np.uint8) * 255)),
        File(f"overlay-{number}.png", "image/png", png(overlay(image, values, mask))),
        *([File(f"refined-{number}.npy", BINARY, npy(heat.refined.numpy()))] if question.method.refines else ()),
        *(File(maps_file(number, by), BINARY, npy(split.maps[:, 0].numpy())) for by, split in heat.parts.items()),
    )
    return Finding(
        question=question,
        number=number,
        score=ovam.score(heat.heatmap, torch.from_numpy(mask)),
        region=region_of(mask),
        instances=None if instances is None else instances_of(mask, instances),
        parts=heat.parts,
        files=files,
    )


def maps_file(number: int, by: Split) -> str:
    """The name of the file with a target's maps part by part."""
    return f"maps-{number}-{by}.npy"


def region_of(mask: Bool[np.ndarray, "height width"]) -> Region:
    """A mask in numbers."""
    runs = ovam.coco.encode_run_lengths(mask)
    return Region(
        area=ovam.coco.area(mask),
        bbox=ovam.coco.bounding_box(mask),
        rle=Rle(size=(runs["size"][0], runs["size"][1]), counts=runs["counts"]),
        polygons=ovam.coco.polygons(mask),
    )


def instances_of(mask: Bool[np.ndarray, "height width"], options: InstanceOptions) -> list[Region]:
    """The connected regions of a mask, the largest first."""
    found = ovam.instances(mask, minimum_area=options.minimum_area, connectivity=options.connectivity)
    return [region_of(region) for region in found]


@dataclass(frozen=True, eq=False)
class Labelling:
    """All targets in one map of labels."""

    names: dict[int, str]
    areas: dict[int, int]
    file: File

    def semantic(self, artifacts: Artifacts) -> SemanticMap:
        """What the answer says of it."""
        return SemanticMap(map=artifacts[self.file.name], labels=self.names, areas=self.areas)


def labelling_of(questions: Sequence[Question], heats: Sequence[Heat], options: SemanticOptions) -> Labelling:
    """Label every pixel with the target that leads there."""
    leads = [ovam.lead(question.method, heat.refined) for question, heat in zip(questions, heats, strict=True)]
    labels = ovam.labels_of(torch.stack(leads), margin=options.margin)
    found, areas = np.unique(labels, return_counts=True)
    return Labelling(
        names={0: BACKGROUND, **{number: question.target.label for number, question in enumerate(questions, 1)}, 255: UNSURE},
        areas=dict(zip(found.tolist(), areas.tolist(), strict=True)),
        file=File("semantic.png", "image/png", ovam.indexed_png(labels)),
    )
