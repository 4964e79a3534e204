"""The notebook runs from top to bottom, and what it holds is what it makes."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "ovam.ipynb"


def pictures(cell: nbformat.NotebookNode) -> int:
    """How many pictures a cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


@pytest.mark.e2e
def test_the_notebook_runs_and_shows_the_pictures_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    stored = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        again, timeout=240, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()  # an error in a cell is raised
    assert [pictures(cell) for cell in again.cells] == [pictures(cell) for cell in stored.cells]
    assert sum(pictures(cell) for cell in stored.cells) == 10
    assert {output.output_type for cell in stored.cells for output in cell.get("outputs", [])} <= {
        "display_data",
        "execute_result",
        "stream",
    }
