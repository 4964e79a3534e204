"""`make audit`: known vulnerabilities of the pinned packages, as PyPI lists them.

Where PyPI cannot be asked nothing is known, so the check says that it was skipped, and why; it fails for what is known alone.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.packaging.files import pins

COMMAND = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "examples/requirements.txt")
UNREACHABLE = ("requests.exceptions.", "urllib3.exceptions.", "ERROR:pip_audit._cli:Could not connect")
NAMED = 10  # packages that are named when PyPI does not know them


def main() -> int:
    """Ask for every pinned package; the process' exit code."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.writelines(f"{name}{pin.specifier}\n" for file in REQUIREMENTS for name, pin in pins(file).items())
        listed.flush()
        done = subprocess.run([*COMMAND, "--requirement", listed.name], capture_output=True, text=True, check=False)
    code, lines = verdict(done.stdout, done.stderr)
    for line in lines:
        sys.stdout.write(f"audit: {line}\n")
    return code


def verdict(stdout: str, stderr: str) -> tuple[int, list[str]]:
    """The exit code, and what to print, for what pip-audit wrote."""
    if not stdout.strip():
        reason = stderr.strip().rpartition("\n")[2]
        if reason.startswith(UNREACHABLE):
            return 0, [f"skipped, since pypi.org cannot be reached: {reason}"]
        return 1, [f"pip-audit failed: {reason}"]
    found = json.loads(stdout)["dependencies"]
    unknown = [package["name"] for package in found if "skip_reason" in package]
    if len(unknown) == len(found):
        return 0, [f"skipped, since what answers as pypi.org knows none of the {len(found)} packages (is it a mirror?)"]
    lines = [*vulnerabilities(found)]
    code = 1 if lines else 0
    if unknown:
        lines.append(f"skipped for {len(unknown)} that PyPI does not know: {', '.join(unknown[:NAMED])}")
    return code, [*lines, f"{len(found) - len(unknown)} packages were looked up"]


def vulnerabilities(packages: list[dict[str, object]]) -> Iterator[str]:
    """A line for each: the package, the vulnerability, and the versions that mend it."""
    for package in packages:
        for each in package.get("vulns", ()):  # type: ignore[attr-defined]
            mended = ", ".join(each["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {each['id']}; mended in {mended}"


if __name__ == "__main__":
    sys.exit(main())
