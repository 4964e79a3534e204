"""A real Chromium, which complains about nothing: errors of the page and breaches of its policy fail the test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
MISSING = "needs Chromium: apt install chromium, or CHROMIUM=/path/to/it"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
WAIT = 60_000  # milliseconds, on a machine that does other things as well


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile."""
    with sync_playwright() as playwright:
        yield launched(playwright)


def launched(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))


@contextmanager
def opened(browser: Browser, url: str, expected: str = "", **options: Any) -> Iterator[Page]:
    """A page of its own. What the browser complains about is an error, unless it has the `expected` words."""
    complaints: list[str] = []
    with browser.new_context(accept_downloads=True, **options) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        try:
            yield page
        except Exception as error:
            error.add_note(f"The page {page.url} says: {page.inner_text('body')}")
            raise
    assert [each for each in complaints if not expected or expected not in each] == []


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe finds wrong: the rule, and the element."""
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(rule["id"], node["html"][:160]) for rule in found for node in rule["nodes"]]


def is_too_wide(page: Page) -> bool:
    """Whether one has to scroll sideways."""
    return page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth")
