"""Connection filters in a configuration: their check, their files, their secrets, and the building of what has changed."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest

from pymosn.assembly.filters import FilterBuilder, check_filters, filter_files, modules_on_disk
from pymosn.config.check.paths import Folders, named_paths
from pymosn.config.dump import dump
from pymosn.config.load import load_text
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters.modules import ModuleStore
from pymosn.filters.sources import read_sources

PROXY = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
FILE = """
from typing import Annotated
import msgspec
from pymosn.api import ConnectionFilter, Secret, SharedState

class Settings(msgspec.Struct):
    token: Secret[str] = ""
    limit: int = 3

class Good(ConnectionFilter):
    Config = Settings

class Waits(ConnectionFilter):
    async def on_data(self, data):
        pass

class Misspelt(ConnectionFilter):
    def on_datas(self, data):
        pass

class BadState(ConnectionFilter):
    Shared = dict

class BadTimeout(ConnectionFilter):
    timeout = "soon"

class BadSignature(ConnectionFilter):
    def on_close(self):
        pass
"""


def python(**config: object) -> dict[str, Any]:
    return {"type": "python", "config": config}


def loaded(*filters: dict[str, Any]) -> Any:
    listener = {
        "name": "l",
        "address": "127.0.0.1:1",
        "bind_port": True,
        "filter_chains": [{"filters": list(filters)}],
    }
    routers = [{"router_config_name": "r", "virtual_hosts": []}]
    config = {"servers": [{"routers": routers, "listeners": [listener]}]}
    return load_text(json.dumps(config), "c.json")


CHAIN = "servers[0].listeners[0].filter_chains[0].filters"


@pytest.mark.parametrize(
    ("filters", "path", "text"),
    [
        ([python()], f"{CHAIN}[0].config.path", "needs the path of a Python file"),
        ([python(path="a.py")], f"{CHAIN}[0].config.class", "needs the name of a class"),
        ([python(path="a.py", **{"class": "a-b"})], f"{CHAIN}[0].config.class", "not a class name"),
        ([python(name="nowhere")], f"{CHAIN}[0].config.name", "no installed package offers"),
        ([python(name="nowhere", path="a.py")], f"{CHAIN}[0].config.name", "neither `path` nor `class`"),
        ([PROXY, python(path="a.py", **{"class": "A"})], f"{CHAIN}[1]", "never reached"),
        ([{"type": "pythn"}], f"{CHAIN}[0].type", "unknown network filter"),
    ],
)
def test_errors(filters: list[dict[str, Any]], path: str, text: str) -> None:
    faults = [fault for fault in loaded(*filters).errors if fault.path == path]
    assert faults, [(fault.path, fault.message) for fault in loaded(*filters).errors]
    assert text in faults[0].message


def test_a_chain_of_python_filters_alone_is_valid() -> None:
    found = loaded(python(path="a.py", **{"class": "A"}))
    assert [fault.text() for fault in found.faults if "filter" in fault.message] == []
    assert found.config is not None


def test_their_files_are_known(tmp_path: Path) -> None:
    config = loaded(python(path="a.py", **{"class": "A"}), PROXY).config
    listeners = config.servers[0].listeners
    assert filter_files(listeners, str(tmp_path)) == {f"{CHAIN}[0].config.path": str(tmp_path / "a.py")}
    named = [path for path in named_paths(config, Folders(str(tmp_path), str(tmp_path))) if path.role == "filter"]
    assert [(path.where, path.real) for path in named] == [(f"{CHAIN}[0].config.path", str(tmp_path / "a.py"))]


@pytest.mark.parametrize(
    ("name", "config", "text"),
    [
        ("Good", {"limit": "x"}, "Expected `int`, got `str`"),
        ("Missing", {}, "has no class 'Missing' (connection filters in it: "),
        ("Settings", {}, "is not a subclass of pymosn.api.ConnectionFilter"),
        ("Waits", {}, "on_data must be a plain method, not async"),
        ("Misspelt", {}, "did you mean on_data"),
        ("BadState", {}, "not a pymosn.api.SharedState"),
        ("BadTimeout", {}, "timeout must be a number of seconds"),
        ("BadSignature", {}, "on_close is called with (failure)"),
    ],
)
def test_faults_of_classes(tmp_path: Path, name: str, config: dict[str, object], text: str) -> None:
    (tmp_path / "a.py").write_text(FILE)
    listeners = loaded(python(path="a.py", config=config, **{"class": name})).config.servers[0].listeners
    [fault] = check_filters(listeners, str(tmp_path))
    assert text in fault.message
    assert fault.path.startswith(f"{CHAIN}[0].config")


def _builder(folder: Path, before: Any, store: ModuleStore) -> FilterBuilder:
    sources = read_sources([folder / "a.py"])
    return FilterBuilder(str(folder), Metrics(), Log(), {}, before, store.draft(sources.folders, sources.faults))


def test_only_what_has_changed_is_built_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(FILE)
    listener = loaded(python(path="a.py", **{"class": "Good"})).config.servers[0].listeners[0]
    store = ModuleStore()
    first = _builder(tmp_path, {}, store)
    [handle] = first.connection_chain(listener, 0, "l").all
    first.modules.commit()
    second = _builder(tmp_path, first.built, store)
    assert second.connection_chain(listener, 0, "l").all == [handle]
    assert second.new() == []
    second.modules.rollback()
    (tmp_path / "a.py").write_text(FILE + "\n# edited\n")
    third = _builder(tmp_path, first.built, store)
    [other] = third.connection_chain(listener, 0, "l").all
    assert other is not handle
    assert other.kind is not handle.kind
    replaced = third.modules.commit()
    old = weakref.ref(handle.kind)
    replaced.forget()
    first.built.clear()
    del handle, first, second, replaced
    gc.collect()
    assert old() is None, "the replaced class is not freed"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(FILE)
    config = loaded(python(path="a.py", config={"token": "hush-hush"}, **{"class": "Good"})).config
    builder = FilterBuilder(
        str(tmp_path), Metrics(), Log(), {}, {}, modules_on_disk(config.servers[0].listeners, str(tmp_path))
    )
    builder.connection_chain(config.servers[0].listeners[0], 0, "l")
    shown = json.dumps(dump(config, marks=builder.marks))
    assert "hush-hush" not in shown
    assert '"limit"' not in shown
    assert "a.py" in shown
