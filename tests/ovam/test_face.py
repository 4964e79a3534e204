"""The face: what `import ovam` offers, what it costs, and that every example in its documentation runs."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import ovam
import ovam.core

ROOT = Path(__file__).parents[2]
CORE = [module.name for module in pkgutil.iter_modules(ovam.core.__path__, "ovam.core.")]
WEIGHTY = ("torch", "transformers", "diffusers", "safetensors", "denseCRF")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()


@pytest.mark.parametrize("imported", ["ovam", "ovam.errors", ", ".join(CORE)])
def test_the_core_and_the_face_load_no_torch(imported: str) -> None:
    assert python(f"import sys, {imported}; print([name for name in {WEIGHTY} if name in sys.modules])") == "[]"


def test_torch_is_loaded_for_the_name_that_needs_it() -> None:
    assert python("import sys, ovam; ovam.METHODS, ovam.binarize, ovam.overlay; print('torch' in sys.modules)") == "False"
    assert python("import sys, ovam; ovam.capture; print('torch' in sys.modules)") == "True"


def test_every_public_name_is_there_and_no_module_hides_one() -> None:
    assert len(ovam.__all__) <= 24
    assert {*ovam.__all__} == {*ovam._HOMES, "__version__"}
    assert set(ovam.__all__) <= set(dir(ovam))
    for name in ovam.__all__:
        assert not inspect.ismodule(getattr(ovam, name))
    assert python(f"from ovam import *; print(sorted(set({ovam.__all__!r}) - set(dir())))") == "[]"
    with pytest.raises(AttributeError, match="no attribute 'semantic_map'"):
        _ = ovam.semantic_map


def test_submodules_that_users_know_are_attributes() -> None:
    assert python("import ovam; print(ovam.errors.OvamError.__name__)") == "OvamError"
    assert python("import ovam; print({'coco', 'errors'} <= set(dir(ovam)), ovam.coco.area.__name__)") == "True area"


def examples_of(module: Any) -> list[Any]:
    """What a module defines itself, and its classes' methods."""
    own = [thing for thing in vars(module).values() if getattr(thing, "__module__", "") == module.__name__]
    return [thing for thing in own if inspect.isfunction(thing) or inspect.isclass(thing)]


def run(thing: Any, names: dict[str, Any]) -> int:
    """Run the examples of something's documentation; how many there were."""
    tests = [test for test in doctest.DocTestFinder(recurse=True).find(thing, globs=names) if test.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL)
    report: list[str] = []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
    return sum(len(test.examples) for test in tests)


@pytest.fixture
def names(pipeline: StableDiffusionPipeline, trace: ovam.Trace, tmp_path: Path) -> dict[str, Any]:
    """What the examples of the face take for granted; see the README."""
    return {"ovam": ovam, "np": np, "torch": torch, "pipeline": pipeline, "trace": trace, "folder": tmp_path}


@pytest.mark.parametrize("name", [name for name in ovam.__all__ if not name.startswith("__") and name != "METHODS"])
def test_every_public_name_has_an_example_that_runs(name: str, names: dict[str, Any]) -> None:
    assert run(getattr(ovam, name), names) > 0


@pytest.mark.parametrize("name", CORE)
def test_examples_in_the_core_run(name: str) -> None:
    module = importlib.import_module(name)
    for thing in examples_of(module):
        run(thing, {**vars(module), "np": np, "ovam": ovam})
