"""Images with labels: folders, what is wrong with them, renders, and what networks see of both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from experiments import cli
from experiments.networks.examples import CLASSES, VOC, BadFolderError, Renders, voc_folder
from experiments.networks.views import resized, training_view, whole_view
from experiments.world import atlas
from experiments.world.scene import HELD_OUT, sprites_of
from ovam.core.label_maps import IGNORE, indexed_png


def test_the_newest_year_of_a_devkit_is_read(devkit: Path) -> None:
    found = voc_folder(devkit, "train")
    assert found.folder.name == "VOC2012"
    assert found.names == ("a", "b", "c", "d")
    image, labels = found[1]
    assert image.shape == (48, 56, 3)
    assert set(np.unique(labels)) == {0, 7, IGNORE}
    half = found.part(0.5)
    assert len(half) == 2
    assert half == found.part(0.5)
    assert set(half.names) < set(found.names)


def test_the_first_list_that_is_there_is_taken(synthetic: Path) -> None:
    assert voc_folder(synthetic, "paper", "train").names == ("s1", "s2", "s3")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda top: (top / "SegmentationClass/b.png").unlink(), r"the mask .*SegmentationClass/b.png is missing"),
        (lambda top: (top / "JPEGImages/c.jpg").unlink(), r"the image .*JPEGImages/c.jpg is missing"),
        (lambda top: (top / "SegmentationClass/a.png").write_bytes(indexed_png(np.zeros((5, 9), np.uint8))),
         r"a.jpg is 56 x 40 pixels, its mask .*a.png is 9 x 5; allowed: one size"),
        (lambda top: (top / "JPEGImages/d.jpg").write_text("no picture"), r"d.jpg is no picture"),
        (lambda top: (top / "ImageSets/Segmentation/train.txt").write_text(""), r"the list .*train.txt is empty"),
        (lambda top: (top / "ImageSets/Segmentation/train.txt").unlink(), r"no train.txt in ImageSets/Segmentation; it has val"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_trained_on_says_why(devkit: Path, spoil: object, message: str) -> None:
    spoil(devkit / "VOC2012")
    with pytest.raises(BadFolderError, match=message):
        voc_folder(devkit, "train")


def test_a_label_of_no_class_is_refused(devkit: Path) -> None:
    labels = np.zeros((40, 56), np.uint8)
    labels[0] = 33
    (devkit / "VOC2012/SegmentationClass/a.png").write_bytes(indexed_png(labels))
    with pytest.raises(BadFolderError, match=r"a.png has label 33; allowed: 0 to 20, those of Pascal VOC, and 255"):
        voc_folder(devkit, "train")[0]


def test_a_command_ends_with_what_is_wrong(devkit: Path, synthetic: Path) -> None:
    run = CliRunner()
    for arguments, message in (
        (["--network", "DeepLab"], "--network is 'DeepLab'; allowed: 'UPerNet, ResNet', "),
        (["--size", "huge"], "--size is 'huge'; allowed: 'tiny', 'published'"),
        (
            ["--synthetic", str(devkit / "nowhere")],
            "nowhere has no paper.txt or train.txt in ImageSets/Segmentation; it has no list",
        ),
        (["--synthetic", str(synthetic), "--real", str(synthetic)], "has no val.txt"),
    ):
        answer = run.invoke(cli.app, ["table3", *arguments])
        assert answer.exit_code == 1
        assert message in answer.stderr


def test_renders_are_of_the_held_out_style_with_pascal_vocs_labels() -> None:
    assert [atlas.load().label(name) for name in VOC] == list(range(1, CLASSES))
    assert set(VOC) <= set(sprites_of(HELD_OUT))
    assert {sprite.set for several in sprites_of(HELD_OUT).values() for sprite in several} == atlas.load().held_out
    found = [Renders(500, 20)[index] for index in range(20)]
    assert sum(number in labels for number, (_, labels) in enumerate(found, start=1)) >= 19, "its class, unless it is covered"
    assert max(labels.max() for _, labels in found) < CLASSES
    assert (Renders(500, 20)[3][0] == Renders(503, 1)[0][0]).all()
    assert len(Renders(0, 20).part(0.4)) == 8


def test_labels_go_where_the_image_goes() -> None:
    labels = np.zeros((60, 100), np.uint8)
    labels[10:40, 20:90] = 5
    image = np.where(labels[..., None] == 5, 200, 40).repeat(3, axis=2).astype(np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(20):
        view, known = training_view(rng, image, labels, 64)
        assert view.shape == (64, 64, 3)
        assert set(np.unique(known)) <= {0, 5, IGNORE}
        inside, outside = view[known == 5].astype(int), view[known == 0].astype(int)
        if len(inside) and len(outside):
            middle = (np.median(inside, axis=0) + np.median(outside, axis=0)) / 2
            agree = np.concatenate([inside > middle, outside < middle]).mean()
            assert agree > 0.97


def test_a_whole_image_is_seen_whole() -> None:
    view, size = whole_view(np.full((30, 60, 3), 9, np.uint8), 64)
    assert size == (32, 64)
    assert (view[:32] == 9).all()
    assert (view[32:] != 9).all()
    image, labels = resized(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), IGNORE, np.uint8), 0.5)
    assert image.shape == (4, 4, 3)
    assert (labels == IGNORE).all()


def test_a_tall_picture_fits(tmp_path: Path) -> None:
    Image.new("RGB", (10, 70)).save(tmp_path / "tall.png")
    view, (height, width) = whole_view(np.asarray(Image.open(tmp_path / "tall.png")), 32)
    assert (height, width) == (32, 5)
    assert view.shape == (32, 32, 3)
