"""Table 3's networks: losses, Pascal VOC's protocol, trainings that go on where they stopped, export and use."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import pipeline
from typer.testing import CliRunner

from experiments import cli
from experiments.evaluation.run import everything
from experiments.networks import commands, exporting, naming, table3
from experiments.networks.examples import CLASSES, VOC, voc_folder
from experiments.networks.exporting import NoNetworkError, copied, load, pictures, save, segment
from experiments.networks.nets import IMAGENET, KINDS, MASK2FORMER, MASK2FORMER_SWIN, UPERNET, Backbone, backbone_of
from experiments.networks.scoring import class_ious, confusion, mean_iou, over_seeds
from experiments.networks.summary import beats, reaches, summed_up
from experiments.networks.table3 import AGAIN, FULL, REAL, ROWS, SYNTHETIC, THEN_ALL, THEN_HALF, Course, Data, Plan, second
from experiments.networks.training import BACKBONES, RECIPES, segmented, train
from experiments.world import atlas
from experiments.world.scene import classes_of, sprites_of
from ovam.core.label_maps import IGNORE, read_indexed_png

pytestmark = pytest.mark.filterwarnings("ignore:Consider using tensor.detach:UserWarning")


@pytest.fixture
def plan(tmp_path: Path, devkit: Path, synthetic: Path) -> Plan:
    """Two steps of a row on a miniature of Pascal VOC."""
    data = Data(voc_folder(synthetic, "train"), voc_folder(devkit, "train"), voc_folder(devkit, "val"))
    return Plan(tmp_path / "work", data, Course(steps=2, seeds=1, networks=(UPERNET,), naming=1))


def test_one_matrix_counts_all_pixels_that_are_known() -> None:
    truth = np.array([[0, 0, 1, IGNORE]], np.uint8)
    found = confusion(np.array([[0, 1, 1, 1]], np.uint8), truth) + confusion(
        np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8)
    )
    assert found.sum() == 7
    ious = class_ious(found)
    assert ious[:3] == [5 / 6, 1 / 2, None]
    assert mean_iou(found) == pytest.approx((5 / 6 + 1 / 2) / 2), "classes that are neither there nor found do not count"


def test_an_interval_over_seeds_is_students() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-3)
    alone = over_seeds([0.5])
    assert (reaches(alone), beats(alone)) == ("not decided", "not decided")
    assert (reaches(found), beats(found)) == ("holds", "not decided")
    worse = over_seeds([-0.2, -0.21, -0.19])
    assert (reaches(worse), beats(worse)) == ("does not hold", "does not hold")


@pytest.mark.parametrize("name", KINDS)
def test_every_network_learns_a_picture_by_heart(name: str, devkit: Path) -> None:
    torch.manual_seed(0)
    kind, examples = KINDS[name], voc_folder(devkit, "train").part(0.25)
    net = kind.build("tiny")
    losses = train(net, kind, examples, RECIPES["tiny"][name], 12, 2, 32, 0)
    again = train(net, kind, examples, RECIPES["tiny"][name], 3, 2, 32, 1)
    assert again[0] < losses[0]
    image, truth = examples[0]
    (labels,) = segmented(net, kind.scores, [image], 32)
    assert labels.shape == truth.shape


def test_pixels_of_which_nobody_knows_do_not_count_in_a_loss() -> None:
    torch.manual_seed(0)
    kind = KINDS[UPERNET]
    net, images = kind.build("tiny").eval(), torch.randn(1, 3, 32, 32)
    net.config.auxiliary_loss_weight = 0.0
    labels = torch.full((1, 32, 32), IGNORE)
    labels[:, :16] = 3
    known = cross_entropy(kind.scores(net, images)[:, :, :16], labels[:, :16])
    assert float(kind.loss(net, images, labels).detach()) == pytest.approx(float(known.detach()), rel=1e-5)


def test_the_published_sizes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        millions = {name: sum(one.numel() for one in kind.build("published").parameters()) / 1e6 for name, kind in KINDS.items()}
    assert 60 < millions[UPERNET] < 70
    assert 40 < millions[MASK2FORMER] < 48
    assert 100 < millions[MASK2FORMER_SWIN] < 112


def test_all_rows_are_trained_once_and_taken_up_again(plan: Plan, tmp_path: Path) -> None:
    everything(plan)
    lines = {line["row"]: line for line in plan.lines()}
    later = {THEN_HALF: 2, THEN_ALL: 4, AGAIN: 4}
    images = {SYNTHETIC: 3, REAL: 4, **later, **{second(name, FULL): count for name, count in later.items()}}
    assert [(row, line["images"]) for row, line in lines.items()] == list(images.items())
    known = sum(int((labels != IGNORE).sum()) for _, labels in (plan.data.validation[k] for k in range(2)))
    assert all(np.sum(line["confusion"]) == known for line in lines.values())
    again = plan.path(UPERNET, THEN_ALL, 0)
    before = {path: path.stat().st_mtime_ns for path in plan.folder.glob("*.json")}
    again.unlink()
    everything(plan)
    assert [path for path, when in before.items() if path.stat().st_mtime_ns != when] == [again]
    told = json.loads(again.read_text())
    assert (told["losses"], told["confusion"]) == (lines[THEN_ALL]["losses"], lines[THEN_ALL]["confusion"])
    commands.conclude(plan, "VOCdevkit", tmp_path / "out", tmp_path / "out")
    page = (tmp_path / "out/segmentation.md").read_text()
    assert all(f"| UPerNet, ResNet: {row} |" in page for row in ROWS)
    for rate in ("a tenth of the rate", "the full rate"):
        assert f"UPerNet, ResNet, second stage at {rate}: S -> R/2 reaches R alone: **not decided**" in page
    assert set(summed_up(plan.lines())[UPERNET]["rows"]) == set(ROWS)


@pytest.mark.parametrize(
    ("right", "verdicts"),
    [(9, [("does not hold", "does not hold"), ("holds", "holds")]), (0, 2 * [("not decided", "not decided")])],
)
def test_a_network_that_finds_background_alone_decides_nothing(right: int, verdicts: list[tuple[str, str]]) -> None:
    def found(row: str, seed: int, more: int) -> dict[str, Any]:
        confusion = np.zeros((CLASSES, CLASSES), int)
        confusion[0, 0] = 1000
        for one in range(1, CLASSES):
            confusion[one, one], confusion[one, 0] = right + more, 20
        return {"network": "it", "row": row, "seed": seed, "images": 1, "parameters": 1, "seconds": {"all": 1.0},
                "losses": [1.0], "confusion": confusion.tolist()}  # fmt: skip

    more = {row: 1 if how.rate == FULL else -1 for row, how in ROWS.items() if how.after == SYNTHETIC and right}
    one = summed_up([found(row, seed, more.get(row, 0)) for row in ROWS for seed in range(3)])["it"]
    assert [(aims["reaches"], aims["beats"]) for aims in one["aims"]] == verdicts
    assert one["learned"] is (right > 0)


@pytest.mark.parametrize("name", [UPERNET, MASK2FORMER_SWIN])
def test_an_exported_network_gives_the_same_in_transformers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = KINDS[name].build("tiny").eval()
    save(net, name, 64, tmp_path / "trained")
    copied(tmp_path / "trained", tmp_path / "out", "# A network\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"model.safetensors", "config.json", "README.md"}
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (ours,) = segmented(load(tmp_path / "out").net, KINDS[name].scores, [image], 64)
    (before,) = segmented(net, KINDS[name].scores, [image], 64)
    assert (ours == before).all()
    found = pipeline("image-segmentation", model=str(tmp_path / "out"))(Image.fromarray(image), subtask="semantic")
    names = ("background", *VOC)
    for one in found:
        theirs = np.asarray(one["mask"]) > 0
        assert (theirs == (ours == names.index(one["label"]))).mean() > 0.99


def test_a_folder_of_pictures_is_segmented(tmp_path: Path, devkit: Path) -> None:
    torch.manual_seed(0)
    save(KINDS[UPERNET].build("tiny"), UPERNET, 32, tmp_path / "net")
    found = pictures(devkit / "VOC2012/JPEGImages")
    segment(found, load(tmp_path / "net"), tmp_path / "out")
    with Image.open(tmp_path / "out/contact-sheet.png") as sheet:
        assert sheet.width > 6 * 144
    assert read_indexed_png((tmp_path / "out/SegmentationClass/b.png").read_bytes()).shape == (48, 56)


def test_what_is_no_network_and_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoNetworkError, match=r"empty is no trained network: it has no network.json"):
        load(tmp_path / "empty")
    with pytest.raises(NoNetworkError, match=r"empty has no pictures; allowed: a folder with files that end in .jpg"):
        pictures(tmp_path / "empty")
    with pytest.raises(NoNetworkError, match=r"`python -m experiments table3` trains it"):
        copied(tmp_path / "empty", tmp_path / "out", "")
    (tmp_path / "empty" / exporting.MARK).write_text("{}")
    with pytest.raises(NoNetworkError, match="is there already; allowed: a new folder"):
        copied(tmp_path / "empty", tmp_path, "")
    answer = CliRunner().invoke(cli.app, ["segment", str(tmp_path), "--network", str(tmp_path)])
    assert answer.exit_code == 1
    assert "has no pictures" in answer.stderr


def test_second_stages_learn_at_a_tenth_of_the_rate_and_at_the_full_one() -> None:
    rates = {row: how.rate for row, how in ROWS.items()}
    assert rates == {
        SYNTHETIC: 1.0, REAL: 1.0, THEN_HALF: 0.1, THEN_ALL: 0.1, AGAIN: 0.1,
        "S -> R/2, full rate": 1.0, "S -> R, full rate": 1.0, "R -> R, full rate": 1.0,
    }  # fmt: skip
    for several in RECIPES.values():
        for recipe in several.values():
            assert recipe.at(0.1) == replace(recipe, rate=pytest.approx(recipe.rate / 10))
    assert pytest.approx(5 / 11.5, abs=2e-3) == table3.HALF


@pytest.mark.parametrize("name", get_args(Backbone))
def test_a_backbone_learns_to_name_things_and_networks_begin_with_it(name: Backbone, plan: Plan) -> None:
    backbone, right = naming.named(name, 2, 32)
    assert 0 <= right <= 1
    exporting.save_backbone(backbone, plan.work / "backbone")
    loaded = exporting.load_backbone(name, plan.work / "backbone").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in backbone.state_dict().items())
    for kind in KINDS.values():
        if kind.backbone == name:
            net = kind.build("tiny")
            before = {key: value.clone() for key, value in net.state_dict().items()}
            backbone_of(net).load_state_dict(loaded)
            changed = [key for key, value in net.state_dict().items() if not torch.equal(value, before[key])]
            assert changed
            assert all(key.startswith(BACKBONES) for key in changed)


def test_backbones_learn_from_styles_of_the_generator_alone_and_every_class_in_turn() -> None:
    classes, held_out = classes_of(naming.ALONE), atlas.load().held_out
    assert not held_out & {sprite.set for several in sprites_of(naming.ALONE).values() for sprite in several}
    assert [naming.one_thing(seed)[1] for seed in (0, 1, len(classes))] == [0, 1, 0]
    images, classes_seen = naming.views(np.random.default_rng(0), 64)
    assert images.shape == (naming.BATCH, 3, 64, 64)
    assert len(set(classes_seen.tolist())) > 10


def test_all_rows_begin_with_the_backbone_that_was_kept(plan: Plan) -> None:
    everything(plan)
    (told,) = plan.known_before()
    assert (told["backbone"], set(told)) == ("ResNet", {"backbone", "named", "seconds"})
    other = Plan(plan.work, plan.data, replace(plan.course, naming=0))
    assert other.folder != plan.folder
    assert other.naming() == []
    published = Plan(plan.work, plan.data, Course("published", 2, 1, (MASK2FORMER_SWIN,)))
    assert [task.path.stem for task in published.naming()] == ["Swin as networks begin"]


def test_a_backbone_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for source in (tmp_path, IMAGENET["ResNet"]):
        with pytest.raises(NoNetworkError, match="does not load"):
            exporting.load_backbone("ResNet", source)
