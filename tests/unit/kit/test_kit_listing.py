"""Which filters there are, and what they take."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, Field

from pymosn.cli import main
from pymosn.kit.schema import config_schema, fields

FILTERS = '''
import msgspec
from pymosn.api import StreamFilter

class Settings(msgspec.Struct):
    limit: int
    names: list[str] = []

class Limits(StreamFilter):
    """Limits things.

    More of it.
    """
    Config = Settings
    timeout = 2.0
    protocols = ("Http1", "bolt")

    async def on_request(self, exchange): ...
    def on_complete(self, exchange): ...
'''


class Inner(msgspec.Struct):
    x: float


class Settings(msgspec.Struct):
    """Ours."""

    a: int
    b: Annotated[int, msgspec.Meta(ge=1, description="how many")] = 3
    c: str | None = None
    d: list[str] = []
    e: dict[str, Inner] = {}
    f: Literal["x", "y"] = "x"
    g: Inner | None = None


class Model(BaseModel):
    a: int
    b: int = Field(3, ge=1, description="how many")
    c: str | None = None
    d: list[str] = []


WORDS = {
    "a": ("integer", ""),
    "b": ("integer, at least 1", "3"),
    "c": ("string or null", "null"),
    "d": ("list of string", "[]"),
    "e": ("object of Inner", "{}"),
    "f": ('"x" or "y"', '"x"'),
    "g": ("Inner or null", "null"),
}


@pytest.mark.parametrize("kind", [Settings, Model])
def test_a_schema_in_words(kind: Any) -> None:
    schema = config_schema(kind)
    assert schema is not None
    found = fields(schema)
    assert found[0].name == "a"
    assert {field.name: (field.type, field.default) for field in found} == {
        name: words for name, words in WORDS.items() if name in {field.name for field in found}
    }
    assert [field.about for field in found if field.name == "b"] == ["how many"]


def test_no_schema() -> None:
    assert config_schema(None) is None


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "filters.py").write_text(FILTERS)
    entries = [
        {
            "type": "python",
            "config": {"path": "filters.py", "class": "Limits", "limit": 3},
            "on_error": "skip",
            "timeout": "1s",
        },
        {"type": "python", "config": {"path": "filters.py", "class": "Limits", "limit": "many"}},
        {"type": "mirror", "config": {"amplification": 2}},
    ]
    listener = {"name": "front", "address": "127.0.0.1:2045", "bind_port": True, "stream_filters": entries}
    listener["filter_chains"] = [{"filters": []}]
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"servers": [{"default_log_path": "stdout", "listeners": [listener]}]}))
    return path


def listed(*arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(main, ["filters", "--json", *arguments])
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_shipped_filters_are_listed() -> None:
    found = {info["name"]: info for info in listed()}
    mirror = found["mirror"]
    assert (mirror["origin"], mirror["phases"], mirror["on_error"]) == ("shipped", ["on_request"], "fail")
    assert any(field.name == "amplification" for field in fields(mirror["schema"]))
    limits = found["flowControlFilter"]
    assert limits["about"] != "`flowControlFilter`; the rules are Sentinel's."
    assert limits["phases"]
    assert found["seata"]["state"] == "not built"


def test_filters_of_a_configuration(config: Path) -> None:
    good, bad, mirror = [info for info in listed("-c", str(config)) if info["origin"] == "configured"]
    assert (good["name"], good["about"], good["source"]) == (
        "Limits",
        "Limits things.",
        "front, stream_filters[0], filters.py",
    )
    assert (good["phases"], good["on_error"], good["timeout"]) == (["on_request async", "on_complete"], "skip", 1.0)
    assert [field.name for field in fields(good["schema"])] == ["limit", "names"]
    assert bad["state"] == "config.limit Expected `int`, got `str`"
    assert (mirror["name"], mirror["source"]) == ("mirror", "front, stream_filters[2], type mirror")


def test_the_text_output(config: Path) -> None:
    text = CliRunner().invoke(main, ["filters", "-c", str(config)]).stdout
    assert (
        "Limits: configured (front, stream_filters[0], filters.py)\n"
        "  Limits things.\n"
        "  phases    on_request async, on_complete\n"
        "  only for  Http1, bolt\n"
        "  on error  skip, timeout 1 s\n"
        "  config\n"
        "    limit: integer, required\n"
        "    names: list of string = []\n"
    ) in text
    assert "MOSN's filters that are not implemented yet: " in text


def test_a_configuration_with_faults(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"servers": 3}')
    result = CliRunner().invoke(main, ["filters", "-c", str(path)])
    assert result.exit_code == 1
    assert "servers" in result.stderr
