"""Programs that nobody here wrote read what was exported, and find the very images and masks.

pycocotools, datasets and webdataset are among the requirements of the checks. Datumaro, supervision and labelme need older
packages than the service: `make readers` installs them in an environment of their own, whose folder DATASET_READERS names.
"""

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ovam.core.export import (
    Annotation,
    Coco,
    Form,
    HuggingFace,
    Labelme,
    Sample,
    Split,
    Voc,
    WebDataset,
    Yolo,
    export,
    into_folder,
)
from ovam.core.export.entries import Entry, numbers_of
from ovam.core.export.samples import encoded
from tests.ovam.drawn import CLASSES, car_and_grass, png, square

FOLDER = os.environ.get("DATASET_READERS")
others = pytest.mark.skipif(FOLDER is None, reason="needs the readers that `make readers` installs")
SAMPLES = [
    *(car_and_grass(f"car-{number}", prompt="a car", seed=number) for number in range(7)),
    Sample("empty", png()),
    Sample("pixel", png(), [Annotation("car", square(9, 10, 7, 8), 0.5)], unsure=square(0, 3, 0, 1)),
    Sample("corners", png(), [Annotation("grass", square(0, 5, 0, 4) | square(5, 10, 4, 8))]),
]
BY_NAME = {sample.name: sample for sample in SAMPLES}
THIRD = Split(0.3)
SPLITS = {name: THIRD.of(name) for name in BY_NAME}


def written(form: Form, folder: Path) -> Path:
    into_folder(export(SAMPLES, form, CLASSES, split=THIRD), folder)
    return folder


def true_mask(name: str, label: str) -> np.ndarray:
    found = [each.mask for each in BY_NAME[name].annotations if each.label == label]
    return np.logical_or.reduce(found, axis=0) if found else np.zeros((8, 10), np.bool_)


def true_labels(name: str) -> np.ndarray:
    sample = BY_NAME[name]
    return Entry(sample, name, "train", encoded(sample), numbers_of(CLASSES)).labels()


def test_both_splits_are_there() -> None:
    assert {*SPLITS.values()} == {"train", "val"}


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("form", [Coco(), Coco(outlines="polygons"), Coco(regions=False)], ids=str)
def test_pycocotools_finds_every_mask(form: Coco, tmp_path: Path) -> None:
    folder = written(form, tmp_path / "set")
    seen = set()
    for split in ("train", "val"):
        coco = COCO(str(folder / "annotations" / f"instances_{split}.json"))
        assert {each["name"]: each["id"] for each in coco.loadCats(coco.getCatIds())} == CLASSES
        for image in coco.loadImgs(coco.getImgIds()):
            name = Path(image["file_name"]).stem
            assert (folder / "images" / split / image["file_name"]).read_bytes() == BY_NAME[name].image
            found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            for label, number in CLASSES.items():
                masks = [coco.annToMask(each) for each in found if each["category_id"] == number]
                union = np.logical_or.reduce(masks, axis=0) if masks else np.zeros((8, 10), np.bool_)
                assert np.array_equal(union, true_mask(name, label)), name
            if name.startswith("car"):
                assert len(found) == (3 if form.regions else 2)
                assert not any(each["iscrowd"] for each in found)
            assert all(each["area"] == coco.annToMask(each).sum() for each in found)
            assert SPLITS[name] == split
            seen.add(name)
    assert seen == {*BY_NAME}


def test_hugging_face_s_datasets_decodes_images_and_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset  # noqa: PLC0415 - takes seconds, and reads the variable

    loaded: Any = load_dataset(str(written(HuggingFace(), tmp_path / "set")), cache_dir=str(tmp_path / "cache"))
    assert {*loaded} == {"train", "validation"}
    rows = [row for part in loaded.values() for row in part]
    assert {row["name"] for row in rows} == {*BY_NAME}
    for row in rows:
        image = row["image"]
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(BytesIO(png()))))
        assert np.array_equal(np.asarray(row["mask"]), true_labels(row["name"]))
    assert {(row["prompt"], row["seed"]) for row in rows} == {("a car", number) for number in range(7)} | {("", None)}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves shards to the garbage collector
def test_webdataset_decodes_images_masks_and_json(tmp_path: Path) -> None:
    import webdataset  # noqa: PLC0415 - imports torch

    folder = written(WebDataset(), tmp_path / "set")
    seen = {}
    for split in ("train", "val"):
        shards = webdataset.WebDataset(str(folder / f"{split}-000000.tar"), shardshuffle=False).decode("pil")
        seen |= {row["__key__"]: (split, row) for row in shards}
    assert {name: split for name, (split, _) in seen.items()} == SPLITS
    for name, (_, row) in seen.items():
        assert row["png"].size == (10, 8)
        assert row["json"]["classes"] == CLASSES
        assert row["json"]["prompt"] == BY_NAME[name].prompt
        # its decoder makes every picture RGB: the colours of VOC's palette
        with Image.open(BytesIO(raw(folder / f"{SPLITS[name]}-000000.tar", f"{name}.mask.png"))) as mask:
            assert np.array_equal(np.asarray(mask), true_labels(name))
            assert np.array_equal(np.asarray(row["mask.png"]), np.asarray(mask.convert("RGB")))


def raw(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        return tar.extractfile(name).read()  # type: ignore[union-attr]


def test_opencv_fills_yolo_s_polygons_to_the_very_mask(tmp_path: Path) -> None:
    # as ultralytics does: corners cut to whole numbers, the border counted in
    folder = written(Yolo(), tmp_path / "set")
    for name, split in SPLITS.items():
        masks = {index: np.zeros((8, 10), np.uint8) for index in range(2)}
        for line in (folder / "labels" / split / f"{name}.txt").read_text().splitlines():
            index, *shares = line.split()
            corners = np.reshape([float(share) for share in shares], (-1, 2)) * (10, 8)
            cv2.fillPoly(masks[int(index)], [corners.astype(np.int32)], 1)
        for index, label in enumerate(numbers_of(CLASSES)):
            assert np.array_equal(masks[index] > 0, true_mask(name, label)), name


READ = """
import json, os, sys
from pathlib import Path
import numpy as np
os.environ["QT_QPA_PLATFORM"] = "offscreen"
form, folder, found = sys.argv[1], Path(sys.argv[2]), {}
def keep(name, split, label, mask):
    key = f"{name}/{split}/{label}"
    found[key] = found.get(key, False) | (np.asarray(mask) > 0)
if form in ("coco_instances", "voc_segmentation"):
    import datumaro
    data = datumaro.Dataset.import_from(str(folder), form)
    labels = [each.name for each in data.categories()[datumaro.AnnotationType.label].items]
    for item in data:
        assert item.media.data.shape == (8, 10, 3)
        keep(item.id, item.subset, "", np.zeros((8, 10)))
        for each in item.annotations:
            if hasattr(each, "image"):
                keep(item.id, item.subset, labels[each.label], each.image)
            elif each.type == datumaro.AnnotationType.polygon:
                from datumaro.util.mask_tools import rles_to_mask
                from pycocotools import mask
                keep(item.id, item.subset, labels[each.label], mask.decode(mask.merge(mask.frPyObjects([each.points], 8, 10))))
if form == "supervision":
    import supervision
    for split in ("train", "val"):
        images, texts = folder / "images" / split, folder / "labels" / split
        data = supervision.DetectionDataset.from_yolo(str(images), str(texts), str(folder / "data.yaml"), force_masks=True)
        for path, image, things in data:
            assert image.shape == (8, 10, 3)
            keep(Path(path).stem, split, "", np.zeros((8, 10)))
            for index, mask in zip(things.class_id, things.mask if len(things) else []):
                keep(Path(path).stem, split, data.classes[index], mask)
if form == "labelme":
    import labelme, labelme.utils
    for path in sorted(folder.glob("*/*.json")):
        page = labelme.LabelFile(str(path))
        assert page.image_data
        keep(path.stem, path.parent.name, "", np.zeros((8, 10)))
        for shape in page.shapes:
            labels, _ = labelme.utils.shapes_to_label((8, 10), [shape], {shape["label"]: 1})
            keep(path.stem, path.parent.name, shape["label"], labels)
np.savez(sys.argv[3], **found)
"""


def read_by(reader: str, folder: Path) -> dict[tuple[str, str], np.ndarray]:
    """What a reader found: masks by name and class, the class "" for every image; splits are checked."""
    out = folder.with_name("found.npz")
    command = [str(Path(FOLDER or "", "bin", "python")), "-c", READ, reader, str(folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as found:
        parts = {tuple(key.split("/")): found[key] for key in found}
    assert {(name, split) for name, split, label in parts if split != "trainval"} == {*SPLITS.items()}
    return {(name, label): mask for (name, split, label), mask in parts.items() if split != "trainval"}


@others
@pytest.mark.parametrize("form", [Coco(), Coco(outlines="polygons")], ids=str)
def test_datumaro_finds_every_mask_of_coco(form: Coco, tmp_path: Path) -> None:
    found = read_by("coco_instances", written(form, tmp_path / "set"))
    for name in BY_NAME:
        for label in CLASSES:
            assert np.array_equal(found.get((name, label), np.zeros((8, 10), np.bool_)), true_mask(name, label)), name


@others
def test_datumaro_finds_every_label_of_voc(tmp_path: Path) -> None:
    found = read_by("voc_segmentation", written(Voc(), tmp_path / "set"))
    for name in BY_NAME:
        labels = true_labels(name)
        for label, number in {"background": 0, **CLASSES, "ignored": 255}.items():
            assert np.array_equal(found.get((name, label), np.zeros((8, 10), np.bool_)), labels == number), name


@others
@pytest.mark.parametrize("shapes", ["mask", "polygon"])
def test_labelme_finds_every_shape(shapes: Any, tmp_path: Path) -> None:
    found = read_by("labelme", written(Labelme(shapes), tmp_path / "set"))
    for name in BY_NAME:
        for label in CLASSES:
            assert np.array_equal(found.get((name, label), np.zeros((8, 10), np.bool_)), true_mask(name, label)), name


@others
def test_supervision_finds_every_polygon_of_yolo(tmp_path: Path) -> None:
    found = read_by("supervision", written(Yolo(), tmp_path / "set"))
    for name in BY_NAME:
        for label in CLASSES:
            mask = true_mask(name, label)
            read = found.get((name, label), np.zeros((8, 10), np.bool_))
            # it rounds corners and counts the border in, so that a pixel to the right and below is added
            grown = cv2.dilate(mask.astype(np.uint8), np.ones((2, 2), np.uint8), anchor=(1, 1)) > 0
            assert not (mask & ~read).any(), name
            assert not (read & ~grown).any(), name
