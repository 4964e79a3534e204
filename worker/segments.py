"""From heat to segments: masks, their files, and their description in the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from contracts.schema.attribute import InstanceOptions, Region, Segment, SemanticMap, SemanticOptions, SplitMaps, TargetJob
from contracts.schema.fields import Artifact, Rle, Split
from contracts.state.store import File
from ovam.attention.heatmaps import SplitHeatmaps
from ovam.core import coco
from ovam.core.confidence import Confidence
from ovam.core.label_maps import BACKGROUND, IGNORE, indexed_png, labels_of
from ovam.core.masks import instances, score
from ovam.core.pictures import overlay
from ovam.cutting import margin
from worker.rendering import BINARY, grey, npy, png

SEMANTIC = "semantic.png"

Artifacts = Mapping[str, Artifact]


@dataclass(frozen=True, eq=False)
class Heat:
    """Where a target is hot, at the image's size."""

    heatmap: Float[np.ndarray, "height width"]
    refined: Float[np.ndarray, "height width"]
    """What the method's threshold cuts."""
    parts: Mapping[Split, SplitHeatmaps]
    """On the CPU."""
    leakage: float | None
    """To the targets that it competes with."""
    confidence: Confidence | None
    """Of its mask."""


@dataclass(frozen=True, eq=False)
class SegmentDraft:
    """A segment whose files are not stored yet."""

    number: int
    target: TargetJob
    score: float
    leakage: float | None
    confidence: Confidence | None
    mask: Bool[np.ndarray, "height width"]
    region: Region
    instances: list[Region] | None
    parts: Mapping[Split, SplitHeatmaps]
    files: tuple[File, ...]

    def segment(self, artifacts: Artifacts) -> Segment:
        """Return the segment, given the artifacts of its files."""
        return Segment(
            **dict(self.region),
            **dict(self.target),
            score=self.score,
            leakage=self.leakage,
            confidence=self.confidence,
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


def draft_of(
    number: int,
    target: TargetJob,
    heat: Heat,
    mask: Bool[np.ndarray, "height width"],
    image: UInt8[np.ndarray, "height width 3"],
    options: InstanceOptions | None,
) -> SegmentDraft:
    """Write the files of a target's heat and mask."""
    files = [
        File(f"heatmap-{number}.png", "image/png", png(grey(heat.heatmap))),
        File(f"heatmap-{number}.npy", BINARY, npy(heat.heatmap)),
        File(f"mask-{number}.png", "image/png", png(mask.astype(np.uint8) * 255)),
        File(f"overlay-{number}.png", "image/png", png(overlay(image, heat.heatmap, mask))),
        *(File(maps_file(number, by), BINARY, npy(split.maps[:, 0].numpy())) for by, split in heat.parts.items()),
    ]
    if not np.array_equal(heat.refined, heat.heatmap):
        files.append(File(f"refined-{number}.npy", BINARY, npy(heat.refined)))
    regions = None
    if options is not None:
        found = instances(mask, minimum_area=options.minimum_area, connectivity=options.connectivity, most=options.most)
        regions = [region_of(each) for each in found]
    return SegmentDraft(
        number,
        target,
        score(heat.refined, mask),
        heat.leakage,
        heat.confidence,
        mask,
        region_of(mask),
        regions,
        heat.parts,
        tuple(files),
    )


def maps_file(number: int, by: Split) -> str:
    """Name the file with a target's maps part by part."""
    return f"maps-{number}-{by}.npy"


def region_of(mask: Bool[np.ndarray, "height width"]) -> Region:
    """Describe a mask in numbers."""
    runs = coco.encode_run_lengths(mask)
    return Region(
        area=coco.area(mask),
        bbox=coco.bounding_box(mask),
        rle=Rle(size=(runs["size"][0], runs["size"][1]), counts=str(runs["counts"])),
        polygons=coco.polygons(mask),
    )


@dataclass(frozen=True, eq=False)
class SemanticDraft:
    """A map of labels whose file is not stored yet."""

    names: dict[int, str]
    areas: dict[int, int]
    file: File

    def semantic(self, artifacts: Artifacts) -> SemanticMap:
        """Return the map, given the artifact of its file."""
        return SemanticMap(map=artifacts[self.file.name], labels=self.names, areas=self.areas)


def semantic_draft_of(targets: Sequence[TargetJob], heats: Sequence[Heat], options: SemanticOptions) -> SemanticDraft:
    """Give every pixel the label of the target with the largest margin there, or the background's."""
    margins = np.stack([margin(target.settings, heat.refined) for target, heat in zip(targets, heats, strict=True)])
    numbers = options.labels or range(1, len(targets) + 1)
    labels = renumbered(labels_of(margins, least_gap=options.least_gap), numbers)
    present, areas = np.unique(labels, return_counts=True)
    return SemanticDraft(
        names={
            BACKGROUND: "background",
            **{number: target.label for number, target in zip(numbers, targets, strict=True)},
            IGNORE: "ambiguous",
        },
        areas=dict(zip(present.tolist(), areas.tolist(), strict=True)),
        file=File(SEMANTIC, "image/png", indexed_png(labels)),
    )


def renumbered(labels: UInt8[np.ndarray, "height width"], numbers: Sequence[int]) -> UInt8[np.ndarray, "height width"]:
    """Replace the labels 1, 2, ... by `numbers`; background and ambiguous pixels keep theirs."""
    table = np.arange(IGNORE + 1, dtype=np.uint8)
    table[1 : len(numbers) + 1] = numbers
    return table[labels]
