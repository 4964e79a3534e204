import json

from tests.packaging.audit import verdict

KNOWN = {"name": "a", "version": "1", "vulns": []}
VULNERABLE = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1", "3"], "aliases": []}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def audited(*packages: dict[str, object]) -> tuple[int, list[str]]:
    return verdict(json.dumps({"dependencies": packages, "fixes": []}), "")


def test_a_known_vulnerability_fails_the_check_and_names_the_cure() -> None:
    code, lines = audited(KNOWN, VULNERABLE, UNKNOWN)
    assert code == 1
    assert lines[0] == "b 2: CVE-1; mended in 2.1, 3"
    assert "skipped for 1 that PyPI does not know: c" in lines


def test_without_vulnerabilities_the_check_passes() -> None:
    assert audited(KNOWN) == (0, ["1 packages were looked up"])


def test_a_check_that_could_not_be_made_says_why_and_does_not_fail() -> None:
    code, lines = verdict("", "Traceback ...\nrequests.exceptions.ConnectionError: no route to host")
    assert (code, lines) == (
        0,
        ["skipped, since pypi.org cannot be reached: requests.exceptions.ConnectionError: no route to host"],
    )
    code, lines = audited(UNKNOWN)
    assert code == 0
    assert lines[0].startswith("skipped, since what answers as pypi.org knows none of the 1 packages")


def test_anything_else_fails() -> None:
    assert verdict("", "ERROR: no such option")[0] == 1
