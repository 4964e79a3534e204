"""The page at `/`, in a real browser: from a prompt to a token, and what happens when something is wrong."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from pycocotools import mask as coco

from launcher.processes import Running
from ovam.core.label_maps import voc_palette
from ovam_client import Client, Job, Segment
from ovam_client.answers import ImagesResult, TokenCard
from tests.e2e.browser import CHROMIUM, MISSING, is_too_wide, opened, violations
from tests.service.gateway import running as gateway

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
CAR, SEED = "a photograph of a red car on the grass", "1"
Images = Job[ImagesResult]
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 740}
INTERACTIVE = 1000  # milliseconds, at most
FRAME = 1000 / 30  # milliseconds, at most
expect.set_options(timeout=60_000)


@pytest.fixture
def page(browser: Browser, service_url: str) -> Iterator[Page]:
    with opened(browser, service_url, viewport=DESK) as page:
        yield page


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def generate(page: Page, prompt: str, **settings: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_text("Settings", exact=True).click()
    for label, value in settings.items():
        page.get_by_label(label, exact=True).fill(value)
    button(page, "Generate").click()


def downloaded(place: Page | Locator, name: str) -> bytes:
    page = place if isinstance(place, Page) else place.page
    with page.expect_download() as download:
        button(place, name).click()
    return Path(download.value.path()).read_bytes()


def mask_of(page: Page) -> np.ndarray:
    """The mask of the only layer that is shown, as it is downloaded."""
    return np.array(Image.open(io.BytesIO(downloaded(page, "Masks")))) > 127


def set_slider(page: Page, name: str, value: float) -> None:
    page.get_by_role("slider", name=name, exact=True).locator("visible=true").fill(str(value))


def layers_of(page: Page) -> Locator:
    return page.get_by_role("region", name="Layers").get_by_role("listitem")


def described(page: Page) -> dict[str, Any]:
    """What the API says of itself."""
    return page.evaluate("async () => (await fetch('openapi.json')).json()")


def draw(page: Page, service: Client) -> Images:
    """A prompt becomes an image, seen on the way."""
    generate(page, CAR, Seed=SEED, Steps="60")  # slowly enough to be watched on a busy machine
    page.get_by_text(re.compile(r"Step \d+ of 60")).wait_for()
    if "targets" in described(page)["components"]["schemas"]["GenerateRequest"]["properties"]:  # its words are found meanwhile
        expect(page.get_by_role("list", name="Found so far").get_by_role("listitem")).to_have_count(3)
        expect(layers_of(page)).to_have_count(3)
        while layers_of(page).count():
            layers_of(page).first.get_by_role("button", name=re.compile("^Remove")).click()
    page.locator(".find").wait_for()
    job: Images = service.jobs.get(re.findall(r"jobs/(\w{26})", page.url)[0])
    assert job.record.request["prompt"] == CAR
    return job


def find(page: Page) -> None:
    """The prompt's own words are suggested, and any others can be typed."""
    chips = page.get_by_role("group", name="Suggestions").get_by_role("button")
    assert chips.all_inner_texts()[:5] == ["red", "car", "grass", "all of these", "all, told apart"]
    page.get_by_label("Find", exact=True).fill("automobile, grass")
    button(page, "Find").click()
    expect(layers_of(page)).to_have_count(2)


def cut(page: Page, found: Segment, service: Client) -> None:
    """The slider cuts the heat as the service would."""
    automobile, grass = layers_of(page).all()
    button(grass, "Hide grass").click()
    automobile.get_by_role("button", name=re.compile("^automobile")).click()
    assert np.array_equal(mask_of(page), found.mask)
    heat = np.load(io.BytesIO(service.download(found.data.refined_npy or found.data.heatmap_npy)))
    for share in (0.2, 0.55, 0.9):
        set_slider(page, "Threshold", share)
        assert np.array_equal(mask_of(page), heat >= np.float32(share * heat.max()))
    set_slider(page, "Opacity", 0.4)
    page.get_by_label("Colour of automobile").fill("#00aa55")
    button(automobile, "As found").click()
    assert np.array_equal(mask_of(page), found.mask)
    button(grass, "Show grass").click()


def take_along(page: Page, found: Segment) -> None:
    """The files are what others read."""
    annotated = json.loads(downloaded(page, "COCO"))
    (car, _) = annotated["annotations"]
    runs = {"size": car["segmentation"]["size"], "counts": car["segmentation"]["counts"].encode()}
    assert np.array_equal(coco.decode(runs).astype(bool), found.mask)
    assert (car["area"], car["bbox"]) == (found.area, list(found.bbox))
    assert [each["name"] for each in annotated["categories"]] == ["automobile", "grass"]
    labels = Image.open(io.BytesIO(downloaded(page, "VOC")))
    assert (labels.mode, set(np.unique(labels))) == ("P", {0, 1, 2})
    assert labels.getpalette() == voc_palette().ravel().tolist()


def ask_about_places(page: Page) -> None:
    """By pointer and by keyboard."""
    canvas, here = page.get_by_role("application"), page.get_by_role("region", name="At this place")
    canvas.click()
    expect(here.get_by_role("listitem")).to_have_count(4)  # the prompt's words and `automobile`
    assert violations(page) == []
    canvas.press("Shift+ArrowRight")
    canvas.press("Enter")
    expect(here).to_contain_text("In the box")
    expect(here.get_by_role("listitem")).to_have_count(4)
    button(here, "Close").click()


def correct(page: Page, found: Segment) -> np.ndarray:
    """A mask is corrected, by pointer and by keyboard; returns it."""
    automobile, grass = layers_of(page).all()
    automobile.get_by_role("button", name="Edit mask").click()
    canvas = page.get_by_role("application")
    size = canvas.bounding_box()
    assert size
    page.mouse.move(size["x"] + 20, size["y"] + 20)
    page.mouse.down()
    page.mouse.move(size["x"] + 120, size["y"] + 30, steps=4)
    page.mouse.up()
    for key in ("ArrowLeft", "Shift+ArrowLeft", "e", " ", "]", "[", "b"):
        canvas.press(key)
    assert violations(page) == []
    for _ in range(3):
        button(page, "Undo").click()
    button(page, "Redo").click()
    button(page, "Done").click()
    button(grass, "Hide grass").click()
    painted = mask_of(page)
    assert painted[3:6, 8:20].all()
    assert (painted & ~found.mask).sum() == (painted != found.mask).sum()
    return painted


def learn(page: Page, service: Client) -> TokenCard:
    """A token is learned from the mask, with the loss on the way."""
    button(layers_of(page).first, "Learn this").click()
    form = page.get_by_role("region", name="Learn")
    form.get_by_label("Name of the token").fill("page-car")
    form.get_by_text("Settings").click()
    form.get_by_label("Epochs").fill("12")
    button(form, "Learn").click()
    form.get_by_text("Now try it").wait_for()
    assert (form.locator("polyline").get_attribute("points") or "").count(",") == 12
    return service.tokens.get("page-car")


def reload(page: Page, token: TokenCard, painted: np.ndarray) -> None:
    """A reload finds everything again."""
    page.reload()
    expect(layers_of(page)).to_have_count(2)
    page.get_by_role("heading", name=f"page-car@{token.version}").wait_for()
    button(page, "Hide grass").click()
    assert np.array_equal(mask_of(page), painted)


def try_elsewhere(page: Page, job: Images, photograph: Path) -> None:
    """The token is tried on another seed, and on a photograph."""
    button(page, "Another seed").last.click()
    page.wait_for_function("id => !location.hash.includes(id)", arg=job.id)
    expect(layers_of(page).filter(has_text="page-car@")).to_have_count(1)
    page.get_by_role("link", name="Tokens").click()
    page.get_by_role("listitem", name="page-car").get_by_role("link", name="Try").click()
    page.get_by_label("A photograph").set_input_files(photograph)
    expect(layers_of(page).filter(has_text="page-car@")).to_have_count(1)
    assert violations(page) == []


def look_through_the_galleries(page: Page, service: Client) -> None:
    """Jobs and tokens are found again; a token is taken along, renamed, deleted."""
    page.get_by_role("link", name="Jobs").click()
    expect(page.locator(".card img").first).to_be_visible()
    assert violations(page) == []
    page.get_by_role("link", name="Tokens").click()
    row = page.get_by_role("listitem", name="page-car")
    assert downloaded(row, "Download") == service.tokens.download("page-car")
    button(row, "Rename").click()
    row.get_by_label("New name").fill("page-vehicle")
    assert violations(page) == []
    button(row, "Rename").last.click()
    row = page.get_by_role("listitem", name="page-vehicle")
    button(row, "Delete").click()
    button(page.get_by_role("dialog"), "Delete").click()
    expect(row).to_have_count(0)


def test_the_whole_story(page: Page, service: Client, tmp_path: Path) -> None:
    job = draw(page, service)
    found = job.attribute("automobile", "grass")[0]
    find(page)
    cut(page, found, service)
    take_along(page, found)
    ask_about_places(page)
    painted = correct(page, found)
    token = learn(page, service)
    assert token.examples[0].job_id == job.id
    reload(page, token, painted)
    job.image().save(tmp_path / "photo.png")
    try_elsewhere(page, job, tmp_path / "photo.png")
    look_through_the_galleries(page, service)


def error_of(place: Page | Locator, label: str) -> str:
    """The sentence at a field, which the field is described by."""
    control = place.get_by_label(label, exact=True)
    expect(control).to_have_attribute("aria-invalid", "true")
    ids = (control.get_attribute("aria-describedby") or "").split()
    return " ".join(control.page.locator(f"#{each}").inner_text() for each in ids)


def test_what_is_wrong_is_said_at_the_field_that_caused_it(browser: Browser, service_url: str, tmp_path: Path) -> None:
    refused = "the server responded with a status of"  # what Chromium logs of every answer that is an error
    with opened(browser, service_url, refused, viewport=DESK) as page:
        button(page, "Generate").click()
        assert "Say what should be in the image." in error_of(page, "Prompt")
        generate(page, "a car " * 100, Steps="0")
        assert "greater than or equal to 1" in error_of(page, "Steps")
        page.get_by_label("Steps", exact=True).fill("")
        button(page, "Generate").click()
        assert "tokens" in error_of(page, "Prompt")
        page.get_by_label("Prompt").fill("a car")
        page.get_by_label("Width", exact=True).fill("100")
        page.get_by_text("Settings", exact=True).click()  # folded, it is opened again for its error
        button(page, "Generate").click()
        assert "100" in error_of(page, "Width")
        assert violations(page) == []
        (tmp_path / "no.png").write_bytes(b"no picture")
        page.get_by_label("A photograph").set_input_files(tmp_path / "no.png")
        expect(page.get_by_role("alert").locator("visible=true")).to_contain_text("image")
        for address, sentence in (("#/nowhere", "no such page"), (f"#/jobs/{'0' * 26}", "no job")):
            page.goto(f"{service_url}/{address}")
            expect(page.get_by_role("alert")).to_contain_text(sentence)


def test_a_word_a_name_and_a_mask_are_refused_where_they_were_given(browser: Browser, service_url: str, service: Client) -> None:
    job = service.generate("a photograph of a bus", seed=3, num_inference_steps=4).wait()
    with opened(browser, f"{service_url}/#/jobs/{job.id}", "the server responded with a status of", viewport=DESK) as page:
        page.get_by_label("Find", exact=True).fill("bus " * 100)
        button(page, "Find").click()
        assert "tokens" in error_of(page, "Find")
        button(page, "Paint a mask by hand").click()
        button(page, "Done").click()
        layer = page.get_by_role("region", name="Layers").get_by_role("listitem").last
        button(layer, "Learn this").click()
        learn = page.get_by_role("region", name="Learn")
        button(learn, "Learn").click()
        expect(learn.get_by_role("alert")).to_have_text("The mask marks no pixel that counts.")
        learn.get_by_label("Name of the token").fill("No Name!")
        button(learn, "Learn").click()
        assert "name" in error_of(learn, "Name of the token").lower()


def test_a_job_can_be_canceled_and_its_request_changed(page: Page) -> None:
    generate(page, "a photograph of a bus", Steps="150")
    button(page, "Cancel").click()
    expect(page.get_by_role("alert")).to_have_text("You canceled it.")
    button(page, "Change it and try again").click()
    expect(page.get_by_label("Prompt")).to_have_value("a photograph of a bus")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("150")


@pytest.fixture
def guarded(processes: Running) -> Iterator[tuple[str, str]]:
    """The URL of a gateway of the same service that asks for keys, and a key."""
    shared = {"OVAM_REDIS_URL": processes.redis_url, "OVAM_DATA_DIR": str(processes.logs.parent)}
    command = [sys.executable, "-m", "launcher", "keys", "create", "annotator", "--scope", "read", "--scope", "generate"]
    made = subprocess.run(command, env={**os.environ, **shared}, capture_output=True, text=True, check=True, timeout=60)
    store = f"file://{processes.logs.parent}/store"
    with gateway(processes.redis_url, store, OVAM_KEYS="required", OVAM_DATA_DIR=shared["OVAM_DATA_DIR"]) as running:
        yield running.url, made.stdout.split()[0]


def test_a_key_opens_everything_and_is_kept_for_the_tab_alone(browser: Browser, guarded: tuple[str, str]) -> None:
    url, key = guarded
    refused = "status of 401"
    with opened(browser, url, refused, viewport=DESK) as page:
        dialog = page.get_by_role("dialog", name="API key")
        dialog.get_by_label("Key", exact=True).fill("ovam_wrong")
        assert violations(page) == []
        button(dialog, "Let me in").click()
        assert "no key that is known" in error_of(dialog, "Key")
        dialog.get_by_label("Key", exact=True).fill(key)
        button(dialog, "Let me in").click()
        expect(dialog).to_have_count(0)  # until then it takes whatever is typed
        generate(page, "a photograph of a bus", Steps="4")
        page.get_by_label("Find", exact=True).fill("bus")
        button(page, "Find").click()
        page.get_by_role("region", name="Layers").get_by_role("listitem").first.wait_for()
        assert mask_of(page).shape == (128, 128)
        page.reload()
        page.get_by_role("region", name="Layers").get_by_role("listitem").first.wait_for()
        assert key not in page.evaluate("location.href + document.cookie + JSON.stringify(localStorage)")
        other = page.context.new_page()
        other.goto(url)
        other.get_by_role("dialog", name="API key").wait_for()


def test_a_service_that_is_away_is_said_and_found_again(browser: Browser, service_url: str) -> None:
    with opened(browser, service_url, "net::ERR_", viewport=DESK) as page:
        page.get_by_label("Prompt").fill("a car")
        page.route("**/v1/generate", lambda route: route.abort())
        button(page, "Generate").click()
        expect(page.get_by_role("alert").locator("visible=true")).to_have_text("The service does not answer. Is it running?")
        expect(button(page, "Generate")).to_be_enabled()


def test_everything_fits_a_phone_in_light_and_in_dark(browser: Browser, service_url: str, service: Client) -> None:
    job = service.generate("a photograph of a bus", seed=3, num_inference_steps=4).wait()
    for scheme in ("light", "dark"):
        with opened(browser, service_url, viewport=PHONE, has_touch=True, color_scheme=scheme) as page:
            page.get_by_role("link", name="Datasets").wait_for()
            height = page.get_by_role("banner").evaluate("header => header.offsetHeight")
            assert height < 2 * page.get_by_role("link", name="API").evaluate("link => link.offsetHeight")  # one line
            assert not is_too_wide(page)
            page.get_by_text("Settings", exact=True).click()
            assert not is_too_wide(page)
            assert violations(page) == []
            page.goto(f"{service_url}/#/jobs/{job.id}?find=bus,grass")
            layers = page.get_by_role("region", name="Layers").get_by_role("listitem")
            expect(layers).to_have_count(2)
            page.get_by_role("application").tap()
            page.get_by_role("region", name="At this place").get_by_role("listitem").first.wait_for()
            assert not is_too_wide(page)
            layers.last.get_by_role("button", name="Edit mask").click()
            assert not is_too_wide(page)
            assert violations(page) == []
            for address in ("jobs", "tokens"):
                page.goto(f"{service_url}/#/{address}")
                page.get_by_role("heading", level=1).wait_for()
                assert not is_too_wide(page)


def test_who_leaves_a_view_and_comes_back_before_it_is_there_has_it_whole(browser: Browser, service_url: str) -> None:
    for address in ("#/tokens", "#/jobs"):
        with opened(browser, service_url, viewport=DESK) as page:
            page.evaluate(f"location.hash = '{address}'")
            page.get_by_role("link", name="New", exact=True).click()
            expect(page.get_by_text("Settings", exact=True)).to_be_visible()
            page.wait_for_load_state("networkidle")
            expect(page.get_by_text("Settings", exact=True)).to_be_visible()


def test_a_dataset_is_asked_for_and_taken_along(browser: Browser, service_url: str) -> None:
    with opened(browser, service_url, "status of 404", viewport=DESK) as page:
        if "/v1/datasets" not in described(page)["paths"]:
            pytest.skip("this service makes no datasets")
        page.get_by_role("link", name="Datasets").click()
        button(page, "New dataset").click()
        page.get_by_label("Name", exact=True).fill("one bus")
        page.get_by_label("Classes, one a line").fill("bus = none@1")
        page.get_by_label("Prompts, one a line").fill("a photograph of a {class}\na bus")
        button(page, "Make it").click()
        assert "Line 2 lacks {class}" in error_of(page, "Prompts, one a line")
        page.get_by_label("Prompts, one a line").fill("a photograph of a {class}")
        button(page, "Make it").click()
        assert "no token 'none@1'" in error_of(page, "Classes, one a line")
        page.get_by_label("Classes, one a line").fill("bus")
        page.get_by_label("Images of each prompt").fill("1")
        page.get_by_text("Settings", exact=True).click()
        for label in ("Seed", "Images", "Start from", "ControlNet"):  # of single images
            expect(page.get_by_label(label, exact=True)).to_have_count(0)
        page.get_by_label("Steps", exact=True).fill("4")
        page.get_by_label("Adapters", exact=True).fill("stile:0.5")
        assert violations(page) == []
        button(page, "Make it").click()
        assert "style" in error_of(page, "Adapters")
        page.get_by_label("Adapters", exact=True).fill("style:0.5")
        button(page, "Make it").click()
        page.get_by_text("1 of 1 images").wait_for()
        place = page.evaluate("location.hash.split('/')[2]")
        request = page.evaluate(f"fetch('v1/datasets/{place}').then(answer => answer.json())")["request"]
        made = request["generation"]
        assert (made["num_inference_steps"], made["adapters"]) == (4, [{"name": "style", "scale": 0.5}])
        page.get_by_label("Format").select_option("voc")
        with tarfile.open(fileobj=io.BytesIO(downloaded(page, "Download"))) as tar:
            assert any(name.endswith(".png") for name in tar.getnames())
        button(page, "Delete").click()
        button(page.get_by_role("dialog"), "Delete").click()
        page.get_by_role("heading", name="Datasets").wait_for()
        expect(page.get_by_role("link", name="one bus")).to_have_count(0)


SLIDE = """async () => {
  const [{Layer}, {Stage}] = await Promise.all([import('/web/layers.js'), import('/web/stage.js')]);
  const side = 512;
  const heat = Float32Array.from({length: side * side}, (_, at) => {
    const [x, y] = [at % side, Math.floor(at / side)];
    return Math.exp(-((x - 256) ** 2 + (y - 256) ** 2) / 2e4) + 0.05 * Math.sin(x / 7) * Math.cos(y / 5);
  });
  const threshold = {kind: 'share', tau: 0.4};
  const segment = {rle: {size: [side, side], counts: ''}, settings: {threshold}, area: 0};
  const layer = new Layer('heat', side, side, '#1e88ff', {heat, segment});
  const stage = new Stage(side, side, 'heat');
  stage.image = await createImageBitmap(new ImageData(side, side));
  stage.layers = [layer];
  document.getElementById('main').replaceChildren(stage.element);
  const eye = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const times = [];
  for (let step = 0; step < 40; step += 1) {
    await new Promise(requestAnimationFrame);
    const begun = performance.now();
    layer.cutAt(0.15 + 0.7 * Math.abs(Math.sin(step / 9)));
    stage.draw();
    eye.drawImage(stage.canvas, 0, 0);
    eye.getImageData(0, 0, 1, 1); // waits until it is drawn
    times.push(performance.now() - begun);
  }
  return times.sort((one, other) => one - other)[4]; // the fastest tenth: the machine does other things as well
}"""


def test_the_threshold_follows_its_slider_at_thirty_frames_a_second(page: Page) -> None:
    page.locator(".ask").wait_for()
    assert page.evaluate(SLIDE) < FRAME


OVERTAKEN = """async () => {
  const {Forming} = await import('/web/forming.js');
  const [forming, decoded, seen] = [new Forming(8, 8), [], []];
  document.getElementById('main').replaceChildren(forming.element, forming.legend);
  const real = window.createImageBitmap;
  window.createImageBitmap = () => new Promise((resolve) => decoded.push(() => resolve(null)));
  const all = ['first', 'second', 'third'].map((label) => forming.show(
    {progress: {preview: {image: 0, seed: 1, picture: 'data:image/png;base64,AAAA', masks: [{label, area: 0, mask: null}]}}}));
  for (const turn of [0, 2, 1]) {  // the second is decoded last
    decoded[turn]();
    await all[turn];
    seen.push(forming.legend.textContent);
  }
  window.createImageBitmap = real;
  return seen;
}"""


def test_previews_are_seen_however_fast_they_come_and_never_an_older_one_after_a_newer(page: Page) -> None:
    page.locator(".ask").wait_for()
    assert page.evaluate(OVERTAKEN) == ["first…", "third…", "third…"]


WATCH = """window.usable = new Promise((resolve) => new MutationObserver((_, observer) => {
  if (!document.querySelector('form.ask button.primary')) return;
  resolve(performance.now());
  observer.disconnect();
}).observe(document, {childList: true, subtree: true}))"""


def test_the_page_can_be_used_within_a_second(browser: Browser, service_url: str) -> None:
    times = []
    for _ in range(5):  # the machine does other things as well
        with opened(browser, "about:blank", viewport=DESK) as page:
            page.add_init_script(WATCH)
            page.goto(service_url)
            times.append(page.evaluate("window.usable"))  # polling for it would need eval, which the page's policy forbids
    assert min(times) < INTERACTIVE
