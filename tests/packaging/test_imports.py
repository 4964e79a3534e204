import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter

import grimp
import pytest

from tests.packaging.files import ROOT

HEAVY = ("torch", "diffusers", "transformers")


@pytest.mark.parametrize(
    "module",
    [
        "ovam",
        "ovam.core.methods",
        "ovam.core.masks",
        "service.app",
        "launcher.cli",
        "launcher.doctor",
        "launcher.demo",
        "ovam_client",
    ],
)
def test_what_loads_no_model_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not done.stdout.strip()


def test_every_module_of_the_contracts_and_of_the_core_loads_no_torch() -> None:
    code = f"""
import importlib, pkgutil, sys
import contracts, ovam.core
for package in (contracts, ovam.core):
    for found in pkgutil.walk_packages(package.__path__, f"{{package.__name__}}."):
        importlib.import_module(found.name)
print(*[name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not done.stdout.strip()


@pytest.mark.parametrize("name", ["METHODS", "Method", "OvamError", "binarize", "dense_crf", "overlay"])
def test_what_needs_no_tensors_works_without_torch(name: str) -> None:
    code = f"import sys, ovam; ovam.{name}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_no_imports_form_a_circle_not_even_those_of_types() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    graph = grimp.build_graph(*packages, cache_dir=None)
    circles = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    circles.prepare()  # raises a CycleError that names the modules
