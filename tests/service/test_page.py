"""The page's files: small, open to all, under a strict policy, and right below any root path."""

import os
import re
import subprocess
from pathlib import Path

import httpx2
import pytest

from service.app import create_app
from service.page import FILES
from service.settings import GatewaySettings
from tests.service.serving import client_of

MOST_BYTES, MOST_BYTES_OF_ALL = 150_000, 165_000
FOLDER = os.environ.get("CLIENT_GENERATORS")
NAMES = sorted(path.name for path in FILES.iterdir())


def needed(name: str) -> set[str]:
    """A module, and all that it imports at once."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {each for one in new for each in re.findall(r'from "\./([^"]+)"', (FILES / one).read_text())} - found
    return found


def test_the_page_is_small() -> None:
    """What a view needs is all that is loaded for it; a reader of one view is not a reader of all."""
    sizes = {path.name: path.stat().st_size for path in FILES.iterdir()}
    views = re.findall(r'await import\("\./([^"]+)"\)', (FILES / "app.js").read_text())
    assert {"home.js", "job.js", "datasets.js"} <= {*views}
    for view in views:
        assert sum(sizes[name] for name in needed("app.js") | needed(view) | {"index.html", "style.css", "icon.svg"}) < MOST_BYTES
    assert sum(sizes.values()) < MOST_BYTES_OF_ALL


async def test_every_file_is_open_to_all_and_under_the_policy_and_nothing_else_is(settings: GatewaySettings) -> None:
    async with client_of(create_app(settings.model_copy(update={"keys": "required"}))) as client:
        assert "/" not in (await client.get("/openapi.json")).json()["paths"]
        for path in ("/", *(f"/web/{name}" for name in NAMES)):
            answer = await client.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for path in ("/v1/jobs", "/v1/models", "/web", "/metrics", "/web/../app.py"):
            assert (await client.get(path)).status_code == 401
        for path in ("/web/none.js", "/web/%2e%2e/app.py"):
            assert (await client.get(path)).status_code in (401, 404)


async def test_addresses_are_below_a_root_path(settings: GatewaySettings) -> None:
    async with client_of(create_app(settings.model_copy(update={"root_path": "/ovam"}))) as client:
        page = (await client.get("/ovam/")).text
        found = re.findall(r'(?:href|src)="([^"#]+)', page)
        assert found
        for address in found:
            assert (await client.get(httpx2.URL("http://localhost/ovam/").join(address).path)).status_code == 200


def test_the_page_needs_nothing_from_elsewhere() -> None:
    for path in FILES.iterdir():
        addresses = set(re.findall(r"https?://[^\"'`\s]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name


def test_every_module_that_is_imported_is_there() -> None:
    for path in FILES.glob("*.js"):
        assert {*re.findall(r'(?:from |import\()"\./([^"]+)"', path.read_text())} <= {*NAMES}, path.name


@pytest.mark.skipif(FOLDER is None, reason="needs TypeScript, which `make clients` installs")
def test_the_page_s_types_agree() -> None:
    checker = Path(FOLDER or "", "node_modules", ".bin", "tsc")
    project = Path(__file__).parent / "clients" / "page.json"
    done = subprocess.run([checker, "--project", project], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
