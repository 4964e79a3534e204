import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.files import ROOT, canonical, declared, pins, project, requirement_lines

FILES = ["requirements.txt", "requirements-dev.txt", "examples/requirements.txt"]
OF_TORCH = re.compile(r"^(nvidia-|cuda-|triton)")  # torch's own builds for CUDA fix the versions of these


def all_pins() -> dict[str, Requirement]:
    return pins("requirements.txt") | pins("requirements-dev.txt")


def needs(name: str, extras: frozenset[str]) -> set[str]:
    """What an installed package needs here."""
    found = set()
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found.add(canonical(requirement.name))
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_to_one_version(name: str) -> None:
    for requirement in pins(name).values():
        assert re.fullmatch(r"==[0-9][^,*+]*", str(requirement.specifier)), f"{name}: {requirement}"


@pytest.mark.parametrize("name", FILES)
def test_no_package_is_named_twice(name: str) -> None:
    assert len(list(requirement_lines(name))) == len(pins(name))


def test_the_checks_build_on_the_service_s_own_packages() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert not set(pins("requirements.txt")) & set(pins("requirements-dev.txt"))


def test_the_pins_meet_what_pyproject_asks_for() -> None:
    pinned = pins("requirements.txt")
    for requirement in declared():
        version = str(pinned[canonical(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


def test_what_the_service_needs_is_pinned_with_all_that_it_needs_in_turn() -> None:
    pinned = pins("requirements.txt")
    extras = {canonical(requirement.name): frozenset(requirement.extras) for requirement in declared()}
    extras["py-key-value-aio"] = frozenset({"memory", "redis"})
    for name in pinned:
        missing = {need for need in needs(name, extras.get(name, frozenset())) - set(pinned) if not OF_TORCH.match(need)}
        assert not missing, f"{name} needs {', '.join(sorted(missing))}, which requirements.txt does not pin"


def test_what_is_installed_is_what_is_pinned() -> None:
    wrong = []
    for name, requirement in all_pins().items():
        installed = importlib.metadata.version(name).split("+")[0]
        if f"=={installed}" != str(requirement.specifier):
            wrong.append(f"{requirement}, installed {installed}")
    assert not wrong


def test_the_old_name_that_simplecrf_needs_is_defined_when_it_is_built() -> None:
    line = next(line for line in requirement_lines("requirements.txt") if line.startswith("simplecrf"))
    assert line.endswith("""--config-settings="--build-option=build_ext '-DNPY_IN_ARRAY=NPY_ARRAY_IN_ARRAY|0!'\"""")


# Plots and statistics of experiments, whose commands install what the checks need, and the program that drew the atlas.
PLOTS = [f"evaluation/report/{name}.py" for name in ("plots", "trained", "confidence")]
WITH_THE_CHECKS = {
    ROOT / "experiments" / name for name in (*PLOTS, "confidence.py", "networks/scoring.py", "world/make_atlas.py")
}
FOR_CVAT = {ROOT / "ovam_client/cvat.py"}  # installed where CVAT's command is: see the client's own pyproject.toml


def imported(folder: str) -> dict[str, Path]:
    """The foreign packages that a folder's modules import, each with one module that does."""
    return imported_by(set((ROOT / folder).glob("**/*.py")) - WITH_THE_CHECKS - FOR_CVAT)


def imported_by(paths: set[Path]) -> dict[str, Path]:
    """The foreign packages that modules import, each with one module that does."""
    found: dict[str, Path] = {}
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found |= {name.partition(".")[0]: path for name in names}
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    return {name: path for name, path in found.items() if name not in ours | sys.stdlib_module_names}


PRODUCT = ("contracts", "launcher", "ovam", "ovam_client", "service", "worker")
SHARED = {
    "opentelemetry": {"opentelemetry-api", "opentelemetry-sdk"}
}  # of the many packages in a namespace, those that we import
LOADED_BY_NAME = {
    "peft",
    "opentelemetry-exporter-otlp-proto-http",
}  # by diffusers; by an entry point of OTEL_*


def packages_of(modules: dict[str, Path]) -> dict[str, Path]:
    """The packages that bring imported modules, by canonical name."""
    bringers = importlib.metadata.packages_distributions()
    return {
        canonical(package): path for name, path in modules.items() for package in SHARED.get(name) or bringers.get(name, [name])
    }


def test_pyproject_asks_for_what_the_product_imports_and_for_nothing_else() -> None:
    used = {package: path for folder in PRODUCT for package, path in packages_of(imported(folder)).items()}
    asked = {canonical(requirement.name) for requirement in declared()}
    assert {package: path for package, path in used.items() if package not in asked and not OF_TORCH.match(package)} == {}
    assert asked - set(used) == LOADED_BY_NAME, "nothing imports these"


def test_the_client_s_own_package_asks_for_what_cvat_s_function_imports() -> None:
    table = tomllib.loads((ROOT / "ovam_client/pyproject.toml").read_text())["project"]
    asked = [*map(Requirement, (*table["dependencies"], *table["optional-dependencies"]["cvat"]))]
    assert set(packages_of(imported_by(FOR_CVAT))) <= {canonical(each.name) for each in asked}
    pinned = all_pins()
    for each in asked:
        assert each.specifier.contains(str(pinned[canonical(each.name)].specifier).removeprefix("=="))


def test_nothing_is_pinned_that_nobody_needs() -> None:
    extras = {canonical(requirement.name): frozenset(requirement.extras) for requirement in declared()}
    extras["py-key-value-aio"] = frozenset({"memory", "redis"})
    needed, new = set[str](), {canonical(requirement.name) for requirement in declared()}
    while new:
        needed |= new
        new = {need for name in new for need in needs(name, extras.get(name, frozenset())) if not OF_TORCH.match(need)} - needed
    assert set(pins("requirements.txt")) - needed == set()


def test_the_library_installs_without_a_compiler() -> None:
    table = project()["project"]
    assert not [line for line in table["dependencies"] if line.startswith("simplecrf")]
    assert [line.partition("=")[0] for line in table["optional-dependencies"]["crf"]] == ["simplecrf"]


def test_the_examples_extra_asks_for_what_they_import_on_top_and_its_versions_are_pinned() -> None:
    asked = [Requirement(line) for line in project()["project"]["optional-dependencies"]["ray"]]
    product = {canonical(requirement.name) for requirement in declared()} - {"pyarrow"}
    assert set(packages_of(imported("examples"))) - product == {canonical(requirement.name) for requirement in asked}
    pinned = all_pins() | pins("examples/requirements.txt")
    for requirement in asked:
        version = str(pinned[canonical(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_what_experiments_and_benchmarks_import_is_in_requirements(folder: str) -> None:
    assert unpinned(imported(folder), pins("requirements.txt")) == []


def test_what_the_tests_import_is_in_the_requirements_of_the_checks() -> None:
    assert unpinned(imported("tests"), all_pins()) == []


def test_what_plots_and_atlas_import_is_in_the_requirements_of_the_checks() -> None:
    assert unpinned(imported_by(WITH_THE_CHECKS), all_pins()) == []


def unpinned(found: dict[str, Path], pinned: dict[str, Requirement]) -> list[str]:
    return [f"{path.relative_to(ROOT)} imports {name}" for name, path in packages_of(found).items() if name not in pinned]
