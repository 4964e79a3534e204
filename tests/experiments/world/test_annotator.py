"""The annotators: training that resumes exactly, weights that are refused where they do not fit, figures."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.world import annotator, atlas
from experiments.world.annotator import FIRST, NETS, SECOND, Annotator, overlaps
from experiments.world.annotator_training import Course, Training, bent, measured, shown
from experiments.world.render import ANNOTATOR_TRAINING, example
from experiments.world.scene import START
from tests.pipelines import tiny_pipeline

CLASSES = 61


@pytest.fixture
def course() -> Course:
    return Course(seed=1, start=0.5, batch=4)


@pytest.mark.parametrize("kind", NETS)
def test_an_annotator_labels_every_pixel_of_images_of_several_sizes(kind: str) -> None:
    judge = Annotator(NETS[kind](CLASSES))
    for side in (64, 128):
        labels = judge.labels(np.zeros((3, side, side, 3), np.uint8))
        assert labels.shape == (3, side, side)
        assert labels.max() < CLASSES


@pytest.mark.parametrize("kind", NETS)
def test_training_goes_on_as_if_it_had_never_stopped(kind: str, course: Course, tmp_path: Path) -> None:
    whole = list(Training(kind, course, tmp_path / "none.pt", 6).losses())
    first = Training(kind, course, tmp_path / "some.pt", 6)
    begun = list(itertools.islice(first.losses(), 4))
    first.save()
    torch.rand(7)  # whatever happens between
    rest = list(Training(kind, course, tmp_path / "some.pt", 6).losses())
    assert begun + rest == whole
    assert len(rest) == 2


def test_training_with_an_autoencoder_sees_what_it_gives_back(course: Course) -> None:
    images, _ = course[0]
    plain, seen = shown(images, None), shown(images, tiny_pipeline().vae)
    assert (plain[1:] == seen[1:]).all()
    assert not torch.equal(plain[0], seen[0])


@pytest.mark.parametrize("kind", NETS)
def test_a_net_learns_what_it_is_shown(kind: str, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = replace(course, small=1)[0]
    monkeypatch.setattr(Course, "__getitem__", lambda *_: first)
    losses = list(Training(kind, course, tmp_path / "a.pt", 40).losses())
    assert losses[-1] < 0.5 * losses[0]


def test_annotators_of_other_seeds_see_other_scenes(course: Course) -> None:
    one, other = course[0][0], replace(course, seed=2)[0][0]
    assert not np.array_equal(one, other)
    assert np.array_equal(one, course[0][0])


def test_bending_moves_labels_with_the_picture() -> None:
    drawing, _ = example(ANNOTATOR_TRAINING, 5, START, ("car",))
    label = drawing.labels()
    flat = np.repeat(np.where(label > 0, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    image, moved = bent(np.random.default_rng(0), flat, label)
    assert (moved != label).any()
    assert ((image[..., 0] > 127) == (moved > 0)).mean() > 0.98


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = Annotator(NETS[SECOND](CLASSES))
    judge.save(tmp_path / f"{SECOND}.safetensors", SECOND)
    again = Annotator.load(SECOND, tmp_path)
    image = example(ANNOTATOR_TRAINING, 1, START)[0].image
    assert (judge.labels(image[None]) == again.labels(image[None])).mean() > 0.99
    assert (again.mask(image, "cat") == (again.labels(image[None])[0] == atlas.load().classes.index("cat") + 1)).all()
    assert (tmp_path / f"{SECOND}.safetensors").stat().st_size < 3_000_000
    with pytest.raises(atlas.AtlasError, match="no class 'unicorn'"):
        again.mask(image, "unicorn")


def test_weights_that_do_not_fit_are_refused_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"{FIRST}.safetensors"
    with pytest.raises(atlas.AtlasError, match=r"unet.safetensors is missing"):
        Annotator.load(FIRST, tmp_path)
    Annotator(NETS[FIRST](CLASSES)).save(file, FIRST)
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    with pytest.raises(atlas.AtlasError, match="damaged"):
        Annotator.load(FIRST, tmp_path)
    file.write_bytes(whole.replace(atlas.load().version.encode(), b"0123456789ab"))
    with pytest.raises(atlas.AtlasError, match="version 0123456789ab of the atlas"):
        Annotator.load(FIRST, tmp_path)
    monkeypatch.setitem(annotator.NETS, FIRST, NETS[SECOND])
    file.write_bytes(whole)
    with pytest.raises(atlas.AtlasError, match="damaged"):
        Annotator.load(FIRST, tmp_path)


def test_a_damaged_or_foreign_checkpoint_is_refused_plainly(course: Course, tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    training = Training(FIRST, course, file, 2)
    training.save()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(atlas.AtlasError, match="damaged"):
        Training(FIRST, course, file, 2)
    file.write_bytes(b"nonsense")
    with pytest.raises(atlas.AtlasError, match="damaged"):
        Training(FIRST, course, file, 2)
    torch.save({"atlas": "0123456789ab"}, file)
    with pytest.raises(atlas.AtlasError, match="version 0123456789ab"):
        Training(FIRST, course, file, 2)


def test_overlap_counts_each_class_that_occurs() -> None:
    truth, predicted = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    truth[0, :2], predicted[0, :1] = 1, 1
    iou = overlaps(predicted, truth)
    assert iou[1] == 4 / 8
    assert iou[0] == 8 / 12
    assert np.isnan(iou[2:]).all()


def test_figures_are_given_for_each_recipe_and_say_how_far_two_annotators_agree() -> None:
    judges = [Annotator(NETS[kind](CLASSES)) for kind in NETS]
    report = measured(judges, tiny_pipeline().vae, count=4)
    assert set(report) == {"start", "world", "held out"}
    assert all(0 <= report[name]["mIoU"] <= 1 and "agreement of two annotators" in report[name] for name in report)
