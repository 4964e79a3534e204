"""What the page offers of a model: what its card says, all of it and no more; and how it shows what comes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from ovam_client import Client
from tests.e2e.browser import CHROMIUM, MISSING, is_too_wide, opened, violations
from tests.e2e.test_page import CAR, DESK, PHONE, button, error_of, layers_of, set_slider

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
ABILITIES = {
    "negative_prompt": "Not in the image",
    "emphasis": "Emphasis",
    "image": "Start from",
    "lora": "Adapters",
    "controlnet": "ControlNet",
    "ip-adapter": "Like a picture",
    "clip_skip": "Skip layers of CLIP",
}
QUESTIONS = {
    "aggregation": "Blocks and heads weigh",
    "confidence": "Say how sure each mask is",
    "causal": "Draw it again without each word (slow)",
}
SMALL = {"num_inference_steps": 4}


@pytest.fixture
def page(browser: Browser, service_url: str) -> Iterator[Page]:
    with opened(browser, service_url, "the server responded with a status of", viewport=DESK) as page:
        yield page


def picture(path: Path, side: int) -> Path:
    Image.linear_gradient("L").resize((side, side)).save(path)
    return path


def test_an_image_is_steered_and_drawn_again_with_its_pictures(page: Page, service: Client, tmp_path: Path) -> None:
    small, fitting = picture(tmp_path / "small.png", 64), picture(tmp_path / "edges.png", 128)
    page.get_by_label("Prompt").fill(CAR)
    page.get_by_text("Settings", exact=True).click()
    written = {
        "Seed": "1",
        "Steps": "4",
        "Emphasis": "red:1.5, car#0:0.5",
        "Adapters": "style:0.5",
        "Skip layers of CLIP": "1",
        "Width": "128",
        "Height": "128",
    }
    for label, value in written.items():
        page.get_by_label(label, exact=True).fill(value)
    expect(page.get_by_label("It follows", exact=True)).to_be_hidden()
    page.get_by_label("ControlNet", exact=True).select_option("edges")
    page.get_by_label("It follows: a file").set_input_files(small)
    page.get_by_label("To (share of steps)", exact=True).fill("0.9")
    page.get_by_label("Like a picture", exact=True).select_option("looks")
    page.get_by_label("The picture: a file").set_input_files(small)
    page.get_by_label("How much of it", exact=True).fill("0.3")
    assert violations(page) == []
    button(page, "Generate").click()
    assert "64" in error_of(page, "It follows")
    page.get_by_label("It follows: a file").set_input_files(fitting)
    button(page, "Generate").click()
    requests = []
    for _ in range(2):
        page.locator(".find").wait_for()
        job = page.evaluate("location.hash.slice(7, 33)")
        requests.append(service.jobs.get(job).record.request)
        button(page, "Another seed").first.click()
        page.wait_for_function("id => !location.hash.includes(id)", arg=job)
    first, second = requests
    assert [(each["word"], each["weight"], each["occurrence"]) for each in first["emphasis"]] == [
        ("red", 1.5, None),
        ("car", 0.5, 0),
    ]
    assert [(each["name"], each["scale"]) for each in first["adapters"]] == [("style", 0.5)]
    assert (first["control"]["name"], first["control"]["end"], first["control"]["image"]["height"]) == ("edges", 0.9, 128)
    assert (first["image_prompt"]["scale"], first["clip_skip"]) == (0.3, 1)
    steered = ("emphasis", "adapters", "control", "image_prompt", "clip_skip", "guidance_scale")
    assert first["seed"] != second["seed"]
    assert {name: first[name] for name in steered} == {name: second[name] for name in steered}


def test_what_is_compared_and_how_sure_it_is_is_shown_beside_the_layer(page: Page, service: Client, service_url: str) -> None:
    one, other = [service.generate(CAR, seed=seed, **SMALL).wait() for seed in (1, 2)]
    page.goto(f"{service_url}/#/jobs/{one.id}")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Compare with", exact=True).fill("0" * 26)
    for label in ("Say how sure each mask is", "Draw it again without each word (slow)"):
        page.get_by_label(label).check()
    page.get_by_label("A word instead", exact=True).fill("bus")
    page.get_by_label("Blocks and heads weigh").select_option("automatic")
    page.get_by_label("Find", exact=True).fill("car")
    button(page, "Find").click()
    assert "no job" in error_of(page, "Compare with")
    page.get_by_label("Compare with", exact=True).fill(other.id)
    button(page, "Find").click()
    expect(layers_of(page)).to_have_count(1)
    job = page.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('found').slice(0, 26)")
    record = service.jobs.get(job).record
    assert record.request["targets"][0]["settings"]["aggregation"] == "automatic"
    segment, causal = record.result.segments[0], record.result.causal
    row = layers_of(page).first
    expect(row).to_contain_text(f"{segment.confidence.value * 100:.0f} % agreement")
    for _ in range(2):
        compared, again = row.get_by_role("figure").all()
        inside = f"{abs(segment.difference.inside):.4f}"
        expect(compared).to_contain_text(inside)
        expect(compared).to_contain_text(f"IoU{segment.difference.iou:.2f}")
        expect(again).to_contain_text("a photograph of a red bus on the grass")
        expect(again).to_contain_text(f"from evaluation {causal.from_evaluation + 1} of 4")
        expect(again).to_contain_text(f"{segment.causal.inside:.3f}")
        sizes = "figure => [...figure.querySelectorAll('img')].map(img => img.complete && img.naturalWidth)"
        page.wait_for_function(f"() => [...document.querySelectorAll('figure')].flatMap({sizes}).join() == '128,128,128'")
        assert violations(page) == []
        page.reload()
        expect(row.get_by_role("figure")).to_have_count(2)
    set_slider(page, "Threshold", 0.9)
    expect(row.get_by_text("% agreement")).to_be_hidden()  # it was of another mask
    button(row, "As found").click()
    expect(row.get_by_text("% agreement")).to_be_visible()
    page.set_viewport_size(PHONE)
    assert not is_too_wide(page)


@pytest.mark.parametrize("can", [[], [*ABILITIES, *QUESTIONS]], ids=["nothing", "everything"])
def test_a_control_is_there_where_the_card_says_so(page: Page, service: Client, service_url: str, can: list[str]) -> None:
    """The card of the service itself, with other abilities."""

    def other(route: Route) -> None:
        models: dict[str, Any] = route.fetch().json()
        (card,) = models["models"]
        kept = [each for each in card["adapters"] if each["kind"] in can]
        attentions = ["concept", "joint"] if can else ["concept"]
        route.fulfill(json={"models": [card | {"can": can, "adapters": kept, "attentions": attentions}]})

    page.route("**/v1/models", other)
    page.goto(f"{service_url}/#/tokens")
    page.get_by_role("link", name="New", exact=True).click()
    page.get_by_text("Settings", exact=True).click()
    for label in ABILITIES.values():
        expect(page.get_by_label(label, exact=True)).to_have_count(1 if can else 0)
    expect(page.get_by_label("Only where this is bright", exact=True)).to_have_count(0)  # `mask` is in neither
    page.get_by_text("Adapters that world cannot take").click()
    expect(page.get_by_text("style-xl: ")).to_contain_text("the model's takes")
    job = service.generate(CAR, seed=1, **SMALL).wait()
    page.goto(f"{service_url}/#/jobs/{job.id}")
    page.get_by_text("Options", exact=True).click()
    for label in (*QUESTIONS.values(), "Attention"):
        expect(page.get_by_label(label, exact=True)).to_have_count(1 if can else 0)
