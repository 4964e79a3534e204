"""The client that blocks, written from the one that awaits: `python -m tests.client.sync` after a change of `aio.py`."""

import re
import subprocess
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "ovam_client"
HEAD: Final = '''"""The client for programs that do not await.

Written from `aio.py` by `python -m tests.client.sync`; do not edit.
"""'''
WORDS: Final = (
    (r'^""".*?"""', HEAD),
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


def written() -> str:
    """The text of the module."""
    text = (FOLDER / "aio.py").read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    for command in (
        ["check", "--fix", "--quiet", "--select", "I,UP034", "--exit-zero"],
        ["format", "--quiet"],
    ):
        run = ["ruff", *command, "--stdin-filename", str(FOLDER / "sync.py"), "-"]
        text = subprocess.run(run, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    (FOLDER / "sync.py").write_text(written())
