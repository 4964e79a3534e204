import re
from pathlib import Path

import pytest

from contracts.schema.errors import Code
from service.problems import ANSWERS
from tests.packaging.files import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")])


@pytest.mark.parametrize("code", list(Code))
def test_the_api_page_tells_every_code_and_its_status(code: Code) -> None:
    assert f"| `{code}` | {ANSWERS[code].status} | {ANSWERS[code].title} |" in (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
