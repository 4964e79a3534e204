"""The client that blocks, written from the one that awaits: `python -m tests.client.sync` after a change of `aio.py` (or
`aio_datasets.py`)."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

FILES: Final = {"sync.py": "aio.py", "sync_datasets.py": "aio_datasets.py"}
FOLDER: Final = Path(__file__).resolve().parents[2] / "ovam_client"
HEAD: Final = '''"""The client for programs that do not await.

Written from `{source}` by `python -m tests.client.sync`; do not edit.
"""'''
WORDS: Final = (
    (r"\baio_datasets\b", "sync_datasets"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync ", ""),
    (r"\bawait ", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\baclose\b", "close"),
    (r"  # noqa: ASYNC109$", ""),
    (r"for (\w+) in page\.(\w+):\n +yield \1$", r"yield from page.\2"),
)


def written(name: str = "sync.py") -> str:
    """The text of a module."""
    source = FILES[name]
    text = (FOLDER / source).read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    text = re.sub(r'^""".*?"""', HEAD.format(source=source), text, count=1)
    for command in (
        ["check", "--fix", "--quiet", "--select", "I,UP034", "--exit-zero"],
        ["format", "--quiet"],
    ):
        run = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(FOLDER / name), "-"]
        text = subprocess.run(run, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for name in FILES:
        (FOLDER / name).write_text(written(name))
