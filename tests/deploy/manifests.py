"""Reading the manifests of deploy/: as they are written, and as Kustomize renders an overlay."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.packaging.files import ROOT

DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(path.parent.name for path in DEPLOY.glob("overlays/*/kustomization.yaml"))

Manifest = dict[str, Any]


def written() -> Iterator[tuple[Path, Manifest]]:
    """Every resource of our files that is whole: patches and Kustomize's own files are not."""
    for path in sorted(DEPLOY.glob("**/*.yaml")):
        if path.name not in ("kustomization.yaml", "alerts.yaml") and path.parent.name != "gpu":
            for manifest in yaml.safe_load_all(path.read_text()):
                yield path, manifest


def kustomize() -> list[str] | None:
    """The command that renders a folder; None where neither kubectl nor kustomize is installed."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def rendered(command: list[str], folder: Path) -> list[Manifest]:
    """The resources of an overlay."""
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [*yaml.safe_load_all(done.stdout)]


def containers(manifest: Manifest) -> list[dict[str, Any]]:
    """The containers of what runs pods; none for anything else."""
    template = manifest.get("spec", {}).get("template", {})
    return template.get("spec", {}).get("containers", []) if manifest["kind"] in ("Deployment", "StatefulSet") else []
