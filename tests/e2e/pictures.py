"""Draw docs/page/*.png anew: `ovam up` in an empty folder, then `python -m tests.e2e.pictures http://localhost:8000`."""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import chromium, opened

FOLDER = Path(__file__).parents[2] / "docs/page"
DESK = {"viewport": {"width": 1180, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "color_scheme": "dark"}
EPOCHS = 300 * 1000  # milliseconds, at most, to learn a token

expect.set_options(timeout=60_000)


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def drawn(page: Page, prompt: str, seed: int) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Seed", exact=True).fill(str(seed))
    button(page, "Generate")
    page.locator(".find").wait_for()
    expect(page.get_by_role("region", name="Layers").get_by_role("listitem").first).to_be_visible()  # the prompt's own words
    remove = page.get_by_role("button", name="Remove")
    while remove.count():
        remove.first.click()


def found(page: Page, *words: str) -> None:
    page.get_by_label("Find", exact=True).fill(", ".join(words))
    button(page, "Find")
    expect(page.get_by_role("region", name="Layers").get_by_role("listitem")).to_have_count(len(words))


def layers(browser: Browser, url: str) -> None:
    """Two words, how sure their masks are, and the words at a place."""
    with opened(browser, url, **DESK) as page:
        drawn(page, "a photograph of a turtle and a dog at the top", 51002)
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Say how sure each mask is").check()
        page.get_by_text("Options", exact=True).click()
        found(page, "dog", "turtle")
        page.get_by_role("slider", name="Threshold", exact=True).locator("visible=true").fill("0.62")
        page.get_by_role("application").click(position={"x": 363, "y": 206})
        page.get_by_role("region", name="At this place").get_by_text("turtle").wait_for()
        page.screenshot(path=FOLDER / "layers.png")


def learn(browser: Browser, url: str) -> None:
    """A token that was learned from a mask."""
    with opened(browser, url, **DESK) as page:
        drawn(page, "a photograph of a television", 219000)
        found(page, "television")
        button(page, "Learn this")
        form = page.get_by_role("region", name="Learn")
        form.get_by_label("Name of the token").fill("television")
        form.get_by_role("button", name="Learn", exact=True).click()
        form.get_by_text("Now try it").wait_for(timeout=EPOCHS)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=FOLDER / "learn.png")


def phone(browser: Browser, url: str) -> None:
    """The same on a phone that is dark."""
    with opened(browser, url, **PHONE) as page:
        drawn(page, "a photograph of a red car on the grass", 1)
        found(page, "car")
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=FOLDER / "phone.png")


if __name__ == "__main__":
    with chromium() as browser:
        for picture in (layers, learn, phone):
            picture(browser, sys.argv[1])
