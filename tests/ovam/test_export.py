"""Exports: what is in their files, what is the same whatever happens, and what bad samples do."""

import base64
import doctest
import io
import json
import sys
import tarfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ovam.core.export import (
    FORMS,
    Annotation,
    Coco,
    Datasheet,
    HuggingFace,
    Labelme,
    Sample,
    Split,
    WebDataset,
    as_tar,
    contact_sheet,
    entries,
    export,
    files,
    into_folder,
    parquet,
)
from ovam.core.export.entries import Names, safe
from ovam.core.export.forms import form_of
from ovam.core.export.samples import encoded
from ovam.core.label_maps import read_indexed_png
from ovam.errors import InvalidArgumentError, MissingPackageError, OvamError
from tests.ovam.drawn import CLASSES, car_and_grass, png, square

ANY_FORM = pytest.mark.parametrize("form", FORMS)


def paths(samples: Any, form: Any, **options: Any) -> dict[str, bytes]:
    return {file.path: file.read() for file in export(samples, form, CLASSES, **options)}


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]


def test_a_form_keeps_its_settings() -> None:
    polygons = Coco(outlines="polygons")
    assert form_of(polygons) is polygons
    assert form_of("coco") == Coco() == Coco("rle", regions=True)
    assert Labelme().shapes == "polygon"
    assert WebDataset(shard_bytes=1 << 16).shard_bytes == 1 << 16
    with pytest.raises(InvalidArgumentError, match="shard_bytes"):
        WebDataset(shard_bytes=(1 << 16) - 1)


@ANY_FORM
def test_an_export_holds_one_sample_at_a_time_and_asks_for_it_when_its_files_are_asked_for(form: str) -> None:
    alive = weakref.WeakSet[Sample]()
    most = asked = 0

    def watched() -> Iterator[Sample]:
        nonlocal most, asked
        for number in range(30):
            sample = car_and_grass(f"car-{number}")
            alive.add(sample)
            most, asked = max(most, len(alive)), asked + 1
            yield sample
            del sample

    written = export(watched(), form, CLASSES)
    assert asked == 0
    first = next(written)
    if form not in ("webdataset", "huggingface"):  # their files hold many samples
        assert asked == 1, first.path
    assert sum(1 for _ in written) > 0
    assert (asked, most) == (30, 2)  # the second is made while the loop still holds the first


@ANY_FORM
def test_the_same_samples_give_the_same_bytes_as_a_tar_and_as_a_folder(form: str, tmp_path: Path) -> None:
    samples = [car_and_grass(name) for name in ("a", "b" * 300, "../../etc/passwd", "Käfer 甲虫")]
    archive = b"".join(as_tar(export(samples, form, CLASSES)))
    assert archive == b"".join(as_tar(export(samples, form, CLASSES)))
    count = into_folder(export(samples, form, CLASSES), tmp_path / "set")
    here = {
        str(path.relative_to(tmp_path / "set")): path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()
    }
    assert unpacked(archive) == here
    assert len(here) == count
    assert not [path for path in tmp_path.iterdir() if path.name != "set"]


def test_the_datasheet_comes_last_and_says_what_is_in_the_set() -> None:
    rejected: dict[str, int] = {}

    def filtered() -> Iterator[Sample]:
        yield car_and_grass("a", prompt="a car", seed=3)
        rejected["mask-area"] = 2
        yield Sample("b", png(), [Annotation("car", np.zeros((8, 10), np.bool_))], prompt="a *car*", seed=9)

    about = Datasheet("Cars", model="world", model_hash="abc", tokens={"car": "car@2"}, rejected=rejected)
    written = paths(filtered(), "coco", about=about, split=Split(0.0))
    assert [*written][-1] == "datasheet.json"
    facts = json.loads(written["datasheet.json"])
    assert facts["classes"] == {
        "grass": {"number": 3, "images": 1, "masks": 1, "pixels": 40},
        "car": {"number": 7, "images": 1, "masks": 1, "pixels": 16},
    }
    assert (facts["images"], facts["rejected"], facts["seeds"]) == ({"train": 2}, {"mask-area": 2}, {"lowest": 3, "highest": 9})
    page = written["DATASHEET.md"].decode()
    assert "# Cars" in page
    assert "- car: car@2" in page
    assert "- mask-area: 2" in page
    assert "a \\*car\\*" in page
    lines = [json.loads(line) for line in written["samples.jsonl"].splitlines()]
    assert [(line["name"], line["prompt"], line["seed"]) for line in lines] == [("a", "a car", 3), ("b", "a *car*", 9)]
    assert lines[0]["annotations"][0] == {"label": "car", "score": 0.9, "area": 16}
    with Image.open(io.BytesIO(written["contact-sheet.png"])) as sheet:
        assert len(sheet.getcolors(1 << 20) or []) > 20


@ANY_FORM
def test_an_export_of_nothing_is_whole(form: str) -> None:
    written = paths([], form, about=Datasheet("Half a character: \ud800"))
    assert json.loads(written["datasheet.json"])["images"] == {}
    assert "Images: none." in written["DATASHEET.md"].decode()


def test_a_pixel_of_two_classes_has_the_one_of_the_higher_score_and_of_equals_the_first() -> None:
    left, right, nowhere = square(0, 6), square(4, 10), square(9, 10)
    unsure, rest = square(0, 1), 255
    for scores, winner in (((0.2, 0.9), 7), ((0.9, 0.2), 3), ((0.5, 0.5), 3), ((None, 0.1), 7), ((None, None), 3)):
        both = [Annotation("grass", left, scores[0]), Annotation("car", right, scores[1])]
        written = paths([Sample("a", png(), both, unsure=unsure)], "voc")
        labels = read_indexed_png(written["SegmentationClass/a.png"])
        assert labels[4].tolist() == [255, 3, 3, 3, winner, winner, 7, 7, 7, 7]
    only = read_indexed_png(paths([Sample("a", png(), [Annotation("car", nowhere)])], FORMS["voc"])["SegmentationClass/a.png"])
    assert {*only.reshape(-1).tolist()} == {0, 7}
    other = paths([Sample("a", png(), [Annotation("car", nowhere)])], type(FORMS["voc"])(rest=rest))
    assert {*read_indexed_png(other["SegmentationClass/a.png"]).reshape(-1).tolist()} == {255, 7}


@given(st.lists(st.text(max_size=12) | st.sampled_from(["a", "A", "a-2", "..", "con", "-rf", "a/b", "a.b", ""]), max_size=12))
def test_names_are_safe_and_unique_whatever_they_were(given_names: list[str]) -> None:
    names = Names()
    found = [names.unique(name) for name in given_names]
    names.close()
    assert len({name.lower() for name in found}) == len(found)
    for name in found:
        assert 0 < len(name) <= 110
        assert not entries.UNSAFE.search(name)
        assert not entries.RESERVED.fullmatch(name)


def test_a_safe_name_stays_and_what_differs_before_differs_after() -> None:
    assert safe("car-1_B") == "car-1_B"
    assert safe("a b") != safe("a-b")
    assert safe("a b") != safe("a/b")
    assert safe("\ud800") == safe("\ud800")


def test_the_split_depends_on_name_and_seed_alone() -> None:
    names = [f"car-{number}" for number in range(2000)]
    split = Split(0.2, seed=1)
    share = sum(split.of(name) == "val" for name in names) / len(names)
    assert 0.17 < share < 0.23
    assert [split.of(name) for name in names] != [Split(0.2, seed=2).of(name) for name in names]
    assert {Split(0.0).of(name) for name in names} == {"train"}
    larger = Split(0.4, seed=1)  # what was for validation stays so
    assert all(larger.of(name) == "val" for name in names if split.of(name) == "val")


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.arange(240, dtype=np.uint8).reshape(10, 8, 3)).save(buffer, format="JPEG", exif=exif)
    return buffer.getvalue()


def test_bytes_of_images_are_exported_as_they_are_unless_they_lie_on_their_side() -> None:
    upright = png()
    assert paths([Sample("a", upright)], "yolo", split=Split(0.0))["images/train/a.png"] == upright
    turned = paths([Sample("a", sideways(), [Annotation("car", square(0, 2))])], "yolo", split=Split(0.0))
    with Image.open(io.BytesIO(turned["images/train/a.png"])) as image:
        assert image.size == (10, 8)


MASK = np.zeros((8, 10), np.bool_)
BAD_SAMPLES = {
    "image": (Sample("x", png()[:-60]), "image of 'x' is"),
    "other image": (Sample("x", b"GIF89a"), "image of 'x' is b'GIF89a'; allowed: a whole PNG or JPEG; no image is in it"),
    "label": (Sample("x", png(), [Annotation("dog", MASK)]), "label of 'x' is 'dog'; allowed: the classes grass, car"),
    "mask": (Sample("x", png(), [Annotation("car", MASK.T)]), r"annotations\[0\].mask of 'x' is 'bool \(10, 8\)'"),
    "score": (
        Sample("x", png(), [Annotation("car", MASK, 1.5)]),
        r"annotations\[0\].score of 'x' is 1.5; allowed: a number at least 0",
    ),
    "metadata": (Sample("x", png(), metadata={"clip": float("nan")}), "metadata of 'x' is"),
    "prompt": (Sample("x", png(), prompt="half \ud800"), "prompt of 'x' is"),
    "seed": (Sample("x", png(), seed=-1), "seed of 'x' is -1; allowed: a whole number at least 0"),
    "unsure": (Sample("x", png(), unsure=MASK.T), "unsure of 'x' is"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
@pytest.mark.parametrize("form", ["coco", "webdataset"])
def test_a_bad_sample_is_an_error_that_names_it_or_is_left_out_and_counted(name: str, form: str) -> None:
    sample, message = BAD_SAMPLES[name]
    left_out = {"other image": "image", "mask": "annotations.mask", "score": "annotations.score"}.get(name, name)
    with pytest.raises(InvalidArgumentError, match=message):
        paths([car_and_grass("a"), sample], form)
    written = paths([car_and_grass("a"), sample, car_and_grass("b")], form, lenient=True)
    facts = json.loads(written["datasheet.json"])
    assert sum(facts["images"].values()) == 2
    assert facts["left_out"] == {left_out: 1}
    assert "x" not in {json.loads(line)["name"] for line in written["samples.jsonl"].splitlines()}


@pytest.mark.parametrize(
    ("form", "classes", "message"),
    [
        ("yollo", CLASSES, r"form is 'yollo'; allowed: coco, voc, .* \(did you mean 'yolo'\?\)"),
        ("VOC", CLASSES, r"form is 'VOC'; .* \(did you mean 'voc'\?\)"),
        ("coco", {}, "classes is {}"),
        ("coco", {"car": 0}, r"classes\['car'\] is 0; allowed: a whole number from 1 to 254"),
        ("coco", {"car": 255}, "255"),
        ("coco", {"car": True}, "True"),
        ("coco", {"car": 1, "dog": 1}, "a number of its own for each class"),
        ("coco", ["car", "car"], "names that differ"),
        ("coco", {"a:b": 1}, "no colons"),
        ("coco", {"": 1}, "1 to 100 characters"),
    ],
)
def test_an_unknown_form_and_bad_classes_are_named_before_anything_is_asked_for(form: str, classes: Any, message: str) -> None:
    with pytest.raises(OvamError, match=message):
        export(iter(()), form, classes)


def test_a_missing_pyarrow_is_named_before_anything_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'ovam-service\[parquet\]'"):
        export(iter(()), "huggingface", CLASSES)


def test_shards_are_bounded_and_hold_every_sample_once() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    samples = [Sample(f"noise-{number}", noise) for number in range(20)]
    written = paths(samples, WebDataset(shard_bytes=1 << 16), split=Split(0.0))
    shards = {path: data for path, data in written.items() if path.endswith(".tar")}
    assert [*shards] == [f"train-{number:06d}.tar" for number in range(4)]
    assert all(len(shard) < (1 << 16) + (1 << 14) for shard in shards.values())
    assert sorted(member for shard in shards.values() for member in unpacked(shard)) == sorted(
        f"noise-{number}.{kind}" for number in range(20) for kind in ("png", "mask.png", "json")
    )


def test_what_is_collected_goes_to_the_disk_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "IN_MEMORY", 1 << 10)
    in_memory = paths([car_and_grass(str(number)) for number in range(20)], "coco")
    monkeypatch.undo()
    assert in_memory == paths([car_and_grass(str(number)) for number in range(20)], "coco")


def test_rows_are_packed_in_groups_and_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet as pq  # noqa: PLC0415 - an extra

    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    noise = np.random.default_rng(0).integers(0, 255, (18, 64, 64, 3), dtype=np.uint8)
    samples = [Sample(f"noise-{number}", image) for number, image in enumerate(noise)]
    written = paths(samples, HuggingFace(shard_bytes=1 << 16), split=Split(0.0))
    found = [pq.ParquetFile(io.BytesIO(data)) for path, data in written.items() if path.endswith(".parquet")]
    names = [name for file in found for name in file.read(["name"]).column("name").to_pylist()]
    assert names == [sample.name for sample in samples]
    assert [[file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] for file in found] == [
        [4, 4],
        [4, 4],
        [2],
    ]
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1)  # each row is more
    (data,) = (data for path, data in paths(samples[:3], "huggingface", split=Split(0.0)).items() if path.endswith(".parquet"))
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 3


def test_lists_of_images_name_them_and_say_which_are_for_validation() -> None:
    samples = [car_and_grass("a"), car_and_grass("b")]
    written = paths(samples, "voc", split=Split(0.0))
    lists = {name: written[f"ImageSets/Segmentation/{name}.txt"] for name in ("train", "val", "trainval")}
    assert lists == {"train": b"a\nb\n", "val": b"", "trainval": b"a\nb\n"}
    colours = ["background:0,0,0::", "grass:128,128,0::", "car:128,128,128::", "ignored:224,224,192::"]
    assert written["labelmap.txt"].decode().splitlines()[1:] == colours
    for share, folder in ((0.0, "train"), (0.999, "val")):
        page = paths(samples, "yolo", split=Split(share))["data.yaml"].decode()
        assert f"train: images/train\nval: images/{folder}\n" in page


def test_labelme_s_shapes_are_the_masks_in_its_pixels() -> None:
    sample = car_and_grass("a")
    for shapes in ("mask", "polygon"):
        page = json.loads(paths([sample], Labelme(shapes), split=Split(0.0))["train/a.json"])
        assert (page["imagePath"], page["imageHeight"], page["imageWidth"]) == ("a.png", 8, 10)
        for each in sample.annotations:
            found = np.zeros((8, 10), np.uint8)
            for shape in (shape for shape in page["shapes"] if shape["label"] == each.label):
                corners = np.array(shape["points"]).astype(np.int32)
                if shapes == "polygon":
                    cv2.fillPoly(found, [corners], 1)
                else:
                    (left, top), (right, bottom) = corners
                    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as mask:
                        found[top : bottom + 1, left : right + 1] = np.asarray(mask)
            assert np.array_equal(found > 0, each.mask)


def test_voc_s_images_are_jpegs_close_to_the_original() -> None:
    smooth = np.mgrid[:64, :64].sum(axis=0).astype(np.uint8)
    with Image.open(io.BytesIO(paths([Sample("a", smooth)], "voc")["JPEGImages/a.jpg"])) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image.convert("L")).astype(int) - smooth).max() <= 4


def test_the_contact_sheet_is_the_same_whatever_the_order_and_shows_a_bounded_number() -> None:
    samples = [Sample(f"car-{number}", np.full((8, 8), number, np.uint8)) for number in range(60)]
    sheets = [paths(order, "yolo")["contact-sheet.png"] for order in (samples, samples[::-1])]
    assert sheets[0] == sheets[1]
    with Image.open(io.BytesIO(sheets[0])) as sheet:
        assert len({value for _, value in sheet.getcolors(1 << 20) or []} & {(number,) * 3 for number in range(60)}) >= 48
        assert 6 < sheet.height / (contact_sheet.SIDE + contact_sheet.LINE + contact_sheet.GAP) < 7


def test_a_tile_is_as_long_as_the_longer_side_of_its_image_and_its_classes_have_their_colours() -> None:
    sample = Sample("a", np.full((10, 20, 3), 200, np.uint8), [Annotation("car", np.eye(10, 20, dtype=np.bool_))])
    tile = contact_sheet.tile_of(entries.Entry(sample, "a", "train", encoded(sample), CLASSES))
    assert tile.shape == (contact_sheet.SIDE // 2, contact_sheet.SIDE, 3)
    assert tuple(tile[0, 0]) == contact_sheet.colour_of(7) == (128, 128, 128)
    assert tuple(tile[0, -1]) == (200, 200, 200)


def test_a_legend_goes_on_in_the_next_line_where_a_name_would_not_fit() -> None:
    lines = contact_sheet.legend(dict.fromkeys(["a name that is longer than a line", "car", "dog", "cat"], 1), 110)
    assert [[name for _, name in line] for line in lines] == [["a name that is longer than a line"], ["car", "dog"], ["cat"]]
    assert [line[0][0] for line in lines] == [contact_sheet.GAP] * 3


def test_whoever_streams_an_export_may_go_on_in_another_thread() -> None:
    written = export([car_and_grass(str(number)) for number in range(3)], "voc", CLASSES)
    found = 0
    while True:
        with ThreadPoolExecutor(1) as threads:
            if threads.submit(next, written, None).result() is None:
                break
        found += 1
    assert found == 3 * 2 + 4 + 4


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="a new or an empty folder"):
        into_folder(export([car_and_grass("a")], "coco", CLASSES), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("thing", [export, safe])
def test_the_examples_of_the_documentation_run(thing: Any) -> None:
    (found,) = doctest.DocTestFinder(recurse=False).find(thing, globs={**globals(), "export": export, "safe": safe})
    assert doctest.DocTestRunner().run(found).failed == 0
    assert found.examples
