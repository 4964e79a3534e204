import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from launcher import story
from launcher.client import JobFailedError, Service
from launcher.demo import bar, overlap
from launcher.sheet import FONT_SIZE, SIDE, Cell, fitted, sheet

RECORD = {"id": "j1", "state": "failed", "error": {"detail": "the worker ran out of memory"}, "result": None}
EVENTS = [
    {"state": "queued", "progress": None},
    {"state": "running", "progress": {"done": 1, "total": 2, "unit": "step"}},
    {"state": "failed", "progress": {"done": 1, "total": 2, "unit": "step"}},
]


@pytest.fixture
def failing() -> Iterator[Service]:
    """A service whose one job fails, and which rejects everything but a generation."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: str, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/generate":
                self.answer(202, "{}", Location="/v1/jobs/j1")
            else:
                self.answer(422, json.dumps({"detail": "no such word", "errors": [{"field": "targets.0.word"}]}))

        def do_GET(self) -> None:
            if self.path == "/v1/jobs/j1/events":
                self.answer(200, "".join(f"event: job\ndata: {json.dumps(event)}\n\n" for event in EVENTS))
            else:
                self.answer(200, json.dumps(RECORD))

        def log_message(self, *_: object) -> None:
            return

    with (
        HTTPServer(("127.0.0.1", 0), Handler) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{server.server_port}") as http,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Service(http)
        server.shutdown()
        thread.join()


def test_a_job_that_fails_is_raised_with_its_reason_after_its_progress(failing: Service) -> None:
    seen = []
    with pytest.raises(JobFailedError, match="generate job j1 failed: the worker ran out of memory"):
        failing.run("generate", {"prompt": "a cat"}, seen.append)
    assert seen == [{"done": 1, "total": 2, "unit": "step"}]


def test_a_rejected_request_is_raised_with_the_fields_that_are_wrong(failing: Service) -> None:
    with pytest.raises(JobFailedError, match=r"attribute was rejected: no such word .*targets\.0\.word"):
        failing.run("attribute", {})


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
        draw({"done": done, "total": 2, "unit": "epoch", "loss": 0.5})
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
