"""docs/metrics.md, the dashboard and the alert rules speak of the families that exist, with their labels."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pymosn.observe.families import FAMILIES, HISTOGRAM, Family
from pymosn.observe.metrics_page import page

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "contrib" / "grafana" / "pymosn.json"
ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yml"
#: Labels that Prometheus adds, or that buckets have.
ADDED = {"instance", "job", "le"}


def names_of(family: Family) -> list[str]:
    if family.kind == HISTOGRAM:
        return [f"{family.name}_{end}" for end in ("bucket", "sum", "count")]
    return [family.shown_name]


KNOWN = {name: family for family in FAMILIES for name in names_of(family)}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (variable["definition"] for variable in dashboard()["templating"]["list"] if "definition" in variable)
    yield from (note["expr"] for note in dashboard()["annotations"]["list"])
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_an_expression_has_families_and_labels_that_exist(expression: str) -> None:
    used = re.findall(r"pymosn_\w+", expression)
    assert used or "up{" in expression
    assert [name for name in used if name not in KNOWN] == []
    labels = {label for name in used for label in KNOWN[name].labels} | ADDED
    for selector in re.findall(r"\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", selector)) <= labels
    for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in listed.split(",")} <= labels
    # A counter is read by its rate or increase, and a rate is of nothing else.
    for name in used:
        is_rated = re.search(rf"(?:rate|increase)\({name}\b", expression) is not None
        counts = KNOWN[name].kind in ("counter", "histogram") and "label_values" not in expression
        assert is_rated == counts, name


def test_the_dashboard_is_whole() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            names = re.findall(r"pymosn_\w+", target["expr"])
            assert shown <= {label for name in names for label in KNOWN[name].labels} | ADDED


def test_alerts_are_valid() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (the package prometheus of Debian)")
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_the_table() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert page(text) == text, "make docs"
    with pytest.raises(ValueError, match="has no line"):
        page("no mark")


def test_families_are_named_by_the_conventions() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch("pymosn_[a-z]+(_[a-z]+)*", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
        assert family.kind != HISTOGRAM or family.unit
        assert family.help.endswith(".")
        assert len(set(family.labels)) == len(family.labels)
