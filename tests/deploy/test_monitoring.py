"""Alert rules, the dashboard, the scaler and the documentation: all of them name metrics that are exported."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.deploy.exported import Exported, exported
from tests.deploy.manifests import DEPLOY
from tests.packaging.files import ROOT

OPERATIONS = (ROOT / "docs/operations.md").read_text()
RULES = yaml.safe_load((DEPLOY / "monitoring/alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "monitoring/dashboard.json").read_text())
SELECTOR = re.compile(r"\b((?:ovam|process)_[a-z_]+)(?:\{([^}]*)\})?")
PROCESS = ("process_resident_memory_bytes",)  # of the client library, not in our table


def panels() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def queries() -> list[tuple[str, str]]:
    scaler = yaml.safe_load((DEPLOY / "components/keda/scaledobject.yaml").read_text())["spec"]["triggers"][0]["metadata"]
    return [*((rule["alert"], rule["expr"]) for rule in RULES), *panels(), ("KEDA", scaler["query"])]


@pytest.fixture
async def metrics(redis_url: str, tmp_path: Path) -> dict[str, Exported]:
    return await exported(redis_url, tmp_path)


async def test_every_query_is_promql_over_metrics_and_labels_that_are_exported(metrics: dict[str, Exported]) -> None:
    series = {name: each for each in metrics.values() for name in each.series}
    for where, query in queries():
        promql_parser.parse(query)
        for name, matchers in SELECTOR.findall(query):
            assert name in series, f"{where}: nobody exports {name}"
            labels = set(re.findall(r"([a-z_]+)\s*(?:=|!=|=~|!~)\s*\"", matchers))
            assert labels <= set(series[name].labels), f"{where}: {name} has no label of {labels}"


async def test_the_table_of_metrics_is_what_is_exported(metrics: dict[str, Exported]) -> None:
    rows = re.findall(r"^\| `(ovam_[a-z_]+)` \| (\w+) \| ([^|]*) \| (.*) \|$", OPERATIONS, re.MULTILINE)
    ours = [each for each in metrics.values() if each.name.startswith("ovam_")]
    expected = [(each.name, each.kind, ", ".join(f"`{label}`" for label in each.labels), each.meaning) for each in ours]
    assert sorted(rows) == sorted(expected), "\n".join(f"| `{n}` | {k} | {la} | {m} |" for n, k, la, m in expected)


async def test_names_follow_prometheus_conventions(metrics: dict[str, Exported]) -> None:
    for each in metrics.values():
        assert each.name.endswith("_total") == (each.kind == "counter"), each
        assert not re.search(r"_(ms|kb|mb|minutes)\b", each.name), each
        assert not set(each.labels) & {"job", "instance", "le", "quantile"}, "labels that Prometheus gives itself"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_is_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (ROOT / page).read_text() == OPERATIONS
    assert anchor == rule["alert"].lower()
    section = re.search(rf"^### {rule['alert']}\n+(\S.*)$", OPERATIONS, re.MULTILINE)
    assert section, f"docs/operations.md has no section for {rule['alert']}"


def test_there_is_no_runbook_for_an_alert_that_is_gone() -> None:
    sections = re.findall(r"^### (Ovam\w+)$", OPERATIONS, re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]


def test_panels_have_titles_and_places_of_their_own() -> None:
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in DASHBOARD["panels"]]
    cells = [(column, row) for x, y, w, h in places for column in range(x, x + w) for row in range(y, y + h)]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert [panel["id"] for panel in DASHBOARD["panels"]] == [*range(1, len(DASHBOARD["panels"]) + 1)]
    assert all(panel["title"] for panel in DASHBOARD["panels"])
