"""What the pages on filters show is run: blocks of Python with a request, and the configurations of the recipes."""

import asyncio
import inspect
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pymosn.api import StreamFilter
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.typed import typed
from pymosn.filters.loading import load_filter
from pymosn.filters.stream.shipped import spec_of
from pymosn.testing import Request, Response, make, run

DOCS = Path(__file__).parents[3] / "docs"
RECIPES = DOCS.parent / "examples" / "filters" / "recipes"
TEXT = (DOCS / "filters.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CLUSTERS = {name: Response(200, "192.0.2.9") for name in ("auth", "debug", "lists")}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"block_{number}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(BLOCKS[number], f"docs/filters.md, block {number}", "exec"), module.__dict__)
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    for test in (value for value in own if inspect.isfunction(value) and value.__name__.startswith("test_")):
        outcome = test()
        if inspect.iscoroutine(outcome):
            asyncio.run(outcome)
    filters = [value for value in own if inspect.isclass(value) and issubclass(value, StreamFilter)]
    assert filters
    for kind in filters:
        fields = {"x-api-key": "a-1", "x-debug": "1", "x-name": "eve"}
        for path in ("/", "/ticks"):
            result = run(make(kind), Request("POST", path, fields, '{"a": 1}'), clusters=CLUSTERS)
            assert (result.status, result.reason) == (200, ""), result.log


def test_blocks_of_json() -> None:
    found = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == 2
    for block in found:
        json.loads(block)


def fits(chain: list[dict[str, Any]]) -> None:
    """Checks the settings of all filters of a chain."""
    for entry in chain:
        config = dict(entry["config"])
        if entry["type"] == "python":
            load_filter(RECIPES / config.pop("path"), config.pop("class"), config)
        else:
            spec = spec_of(entry["type"])
            assert spec.make is not None
            spec.make(typed(config, spec.settings))


def test_configurations_of_recipes() -> None:
    """What docs/recipes.md shows as the configuration of a recipe fits it."""
    found = {}
    for section in (DOCS / "recipes.md").read_text().split("\n## ")[1:]:
        named = re.search(r"`(\w+)\.py`, class `(\w+)`", section)
        block = "\n".join(line for line in section.splitlines() if line.startswith("    "))
        if named is None:  # a chain, also of shipped filters
            fenced = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
            fits(yaml.safe_load(fenced[1] if fenced else block)["stream_filters"])
            continue
        found[named[1]] = load_filter(RECIPES / f"{named[1]}.py", named[2], yaml.safe_load(block))
    assert set(found) == {path.stem for path in RECIPES.glob("*.py")}


def test_configurations_of_shipped_filters() -> None:
    """What the pages show as the configuration of a shipped filter fits it, but for what is abbreviated."""
    page = (DOCS / "shipped-filters.md").read_text()
    shown = [json.loads(text) for text in re.findall(r'^    (\{"type": (?:.|\n {5})*)', page, re.MULTILINE)]
    for entry in shown:
        faults = Diagnostics()
        typed(entry["config"], spec_of(entry["type"]).settings, faults)
        assert faults.items == [], entry["type"]
    assert len(shown) > 12


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 7
