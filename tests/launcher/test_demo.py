from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from launcher import story
from launcher.demo import bar, overlap
from launcher.sheet import FONT_SIZE, SIDE, Cell, fitted, sheet
from ovam_client import Progress


def test_the_overlap_of_masks_is_intersection_over_union() -> None:
    one, other = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    assert overlap(one, other) == 1
    one[:, :2], other[:, 1:3] = True, True
    assert overlap(one, other) == pytest.approx(1 / 3)


def test_the_demo_brings_a_mask_for_everything_that_it_looks_for_and_the_licence_of_its_real_image() -> None:
    things = [(row.name, word) for row in (*story.ROWS, story.REAL) for word in row.words]
    things += [(story.TOKEN_ROW.word, seed) for seed in (story.TOKEN_ROW.taught, *story.TOKEN_ROW.others)]
    for name, thing in things:
        mask = story.true_mask(name, thing)
        assert (mask.dtype, mask.shape) == (bool, story.real_image().shape[:2])
        assert 0.02 < mask.mean() < 0.98
    assert {file.name for file in story.PICTURES.iterdir()} == {
        "README.md", "real.png", *(story.mask_file(name, thing).name for name, thing in things),
    }  # fmt: skip
    assert "CC BY 4.0" in (story.PICTURES / "README.md").read_text()


def test_progress_in_a_log_is_one_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    draw = bar("learn")
    for done in (1, 2):
        draw(Progress(done=done, total=2, unit="epoch", loss=0.5))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.split() == ["learn", f"[{'#' * 30}]", "2/2", "epochs", "loss", "0.5000"]


def test_a_sheet_has_a_labelled_cell_for_every_picture(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    warm = np.full((8, 8), 255, np.uint8)
    sheet([[Cell("red", red)], [Cell("heat", warm, heat=True), Cell("mask", warm)]], tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert pixels.shape[1] == 2 * (SIDE + 8) + 8
    middle = 8 + 22 + SIDE // 2
    lower = middle + SIDE + 22 + 8
    assert tuple(pixels[middle, 8 + SIDE // 2]) == (255, 0, 0)
    assert tuple(pixels[lower, 16 + SIDE + SIDE // 2]) == (255, 255, 255)
    assert tuple(pixels[lower, 8 + SIDE // 2]) not in {(255, 255, 255), (255, 0, 0)}  # heat is coloured


def test_titles_stand_above_the_rows_of_a_sheet(tmp_path: Path) -> None:
    grey = Cell("", np.full((8, 8), 128, np.uint8))
    sheet([[grey], [grey]], tmp_path / "bare.png")
    sheet([[grey], [grey]], tmp_path / "titled.png", ["first", "second"])
    with Image.open(tmp_path / "bare.png") as bare, Image.open(tmp_path / "titled.png") as titled:
        assert titled.height > bare.height
        strip = np.asarray(titled.convert("L"))[10:24]
    assert strip.min() < 50


def test_a_label_is_cut_to_its_cell() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    assert fitted("car", draw) == "car"
    cut = fitted("a very long label that has no room above a picture", draw)
    assert cut.endswith(" ...")
    assert draw.textlength(cut, font_size=FONT_SIZE) <= SIDE + 10
