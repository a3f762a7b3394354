"""Stream filters of a configuration: typed settings, shared while unchanged, rejected with the position of the fault."""

import asyncio
import sys
from pathlib import Path

import pytest

from pymosn.assembly.filters import FilterBuilder, check_filters, start_filters, stop_filters
from pymosn.config.load import Loaded, load_text
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters.modules import ModuleStore
from pymosn.filters.sources import read_sources

MODULE = """
import msgspec
from pymosn.api import StreamFilter

class Limit(msgspec.Struct):
    name: str
    count: int = 1

class Settings(msgspec.Struct):
    limits: list[Limit]
    mode: str = "on"

class Typed(StreamFilter):
    Config = Settings
    timeout = 2.5

    def __init__(self, config):
        self.config = config

class Broken(StreamFilter):
    def __init__(self, config):
        raise ValueError("no good")

class Waits(StreamFilter):
    async def on_response_body(self, exchange, data, last):
        pass
"""

CONFIG = """
servers:
- listeners:
  - name: l
    address: 127.0.0.1:1
    bind_port: true
    stream_filters:
    - type: python
      on_error: skip
      config:
        path: filters.py
        class: {name}
        limits:
        - name: a
        - count: {count}
          name: b
    filter_chains: [{{}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "filters.py").write_text(MODULE)
    return tmp_path


def load(folder: Path, name: str = "Typed", count: str = "2") -> Loaded:
    return load_text(CONFIG.format(name=name, count=count), "c.yaml", yaml=True, config_dir=str(folder))


def builder(
    folder: Path, loaded: Loaded, before: FilterBuilder | None = None, store: ModuleStore | None = None
) -> FilterBuilder:
    assert loaded.config is not None
    modules = (store or ModuleStore()).draft(read_sources([folder / "filters.py"]).folders)
    made = FilterBuilder(str(folder), Metrics(), Log(), {}, {} if before is None else before.built, modules)
    made.chain(loaded.config.servers[0].listeners[0], "servers[0].listeners[0]")
    modules.commit()
    return made


def faults(folder: Path, loaded: Loaded) -> list[str]:
    assert loaded.config is not None, loaded.faults
    found = check_filters(loaded.config.servers[0].listeners, str(folder))
    return [fault.placed(loaded.places, "c.yaml").text() for fault in found]


def test_typed_settings_and_policy(folder: Path) -> None:
    loaded = load(folder)
    assert faults(folder, loaded) == []
    (built,) = builder(folder, loaded).new()
    assert [(limit.name, limit.count) for limit in built.handle.filter.config.limits] == [("a", 1), ("b", 2)]  # type: ignore[attr-defined]
    assert (built.handle.skips_errors, built.handle.timeout) == (True, 2.5)
    assert built.handle.filter.context.name == "Typed"


def test_invalid_settings_are_faults_with_their_position(folder: Path) -> None:
    (fault,) = faults(folder, load(folder, count="two"))
    assert fault.startswith("c.yaml:15:18: error: servers[0].listeners[0].stream_filters[0].config.limits[1].count: ")
    assert "Expected `int`, got `str`" in fault


def test_a_filter_that_cannot_be_made(folder: Path) -> None:
    (fault,) = faults(folder, load(folder, "Broken"))
    assert fault.startswith("c.yaml:8:7: error: servers[0].listeners[0].stream_filters[0]: ")
    assert "filters.py:22: ValueError: no good" in fault
    (fault,) = faults(folder, load(folder, "Waits"))
    assert "on_response_body must be a plain method" in fault


def test_an_unchanged_filter_is_the_same_object(folder: Path) -> None:
    store = ModuleStore()
    first = builder(folder, load(folder), None, store)
    second = builder(folder, load(folder), first, store)
    assert second.new() == []
    assert list(second.built.values()) == list(first.built.values())
    third = builder(folder, load(folder, count="3"), second, store)
    assert len(third.new()) == 1
    (folder / "filters.py").write_text(MODULE + "\n")
    assert len(builder(folder, load(folder, count="3"), third, store).new()) == 1


def test_pydantic_models_too(folder: Path) -> None:
    """The interface alone: the package itself is not a dependency."""
    text = MODULE + (
        "\nclass Error(ValueError):\n"
        "    def errors(self):\n        return [{'loc': ('limits', 0, 'name'), 'msg': 'too short'}]\n"
        "class Model:\n"
        "    @classmethod\n    def model_validate(cls, value):\n        raise Error()\n"
        "class Checked(StreamFilter):\n    Config = Model\n"
    )
    (folder / "filters.py").write_text(text)
    (fault,) = faults(folder, load(folder, "Checked"))
    assert fault.endswith("config.limits[0].name: too short")
    assert fault.startswith("c.yaml:14:17: ")


def test_an_unknown_policy(folder: Path) -> None:
    text = CONFIG.format(name="Typed", count=1).replace("on_error: skip", "on_error: skp")
    loaded = load_text(text, "c.yaml", yaml=True, config_dir=str(folder))
    assert [fault.text() for fault in loaded.errors] == [
        "c.yaml:9:17: error: servers[0].listeners[0].stream_filters[0].on_error: must be fail or skip "
        '(value "skp"); did you mean "skip"?'
    ]


# ---- transcoders


def transcoder(folder: Path, name: str, more: str = "") -> Loaded:
    text = (
        CONFIG.format(name=name, count=1).replace("type: python", "type: transcoder").replace("      on_error: skip\n", "")
    )
    return load_text(text.replace("        limits:", f"{more}        limits:"), "c.yaml", yaml=True, config_dir=str(folder))


def test_a_transcoder_is_loaded_from_its_file(folder: Path) -> None:
    text = MODULE + '\nfrom pymosn.api import Transcoder\nclass Coder(Transcoder):\n    upstream_protocol = "dubbo"\n'
    (folder / "filters.py").write_text(text)
    loaded = transcoder(folder, "Coder")
    assert faults(folder, loaded) == []
    (built,) = builder(folder, loaded).new()
    assert built.handle.name == "Coder"
    (fault,) = faults(folder, transcoder(folder, "Typed"))
    assert "Typed is not a subclass of pymosn.api.Transcoder" in fault


def built_in(folder: Path, config: str) -> Loaded:
    before, _, _ = CONFIG.format(name="Coder", count=1).partition("stream_filters:")
    filters = f"stream_filters: [{{type: transcoder, config: {config}}}]\n    filter_chains: [{{}}]\n"
    return load_text(before + filters, "c.yaml", yaml=True, config_dir=str(folder))


def test_transcoders_of_mosn_need_no_file(folder: Path) -> None:
    loaded = built_in(folder, "{type: http2bolt_simple}")
    assert faults(folder, loaded) == []
    (built,) = builder(folder, loaded).new()
    assert built.handle.name == "transcoder"
    (fault,) = faults(folder, built_in(folder, "{type: http2dubbo}"))
    assert "stream_filters[0].config.type: must be one of httpTohttp2" in fault
    rule = "{matcher_config: {matcher_type: simpleMatcher}, rule_info: {upstream_protocol: dubbo}}"
    (fault,) = faults(folder, built_in(folder, f"{{rules: [{rule}]}}"))
    assert "stream_filters[0].config.rules[0].rule_info.upstream_protocol: must be Http1 or Http2" in fault


KEYED = """
import msgspec
from pymosn.api import StreamFilter

class Limit(msgspec.Struct):
    count: int = 1

class Settings(msgspec.Struct):
    by_path: dict[str, dict[str, list[Limit]]] = {}
    by_number: dict[int, str] = {}

class Typed(StreamFilter):
    Config = Settings

class Unseen(StreamFilter):
    protocols = ("HTTP1",)
"""


def faults_of_keyed(folder: Path, settings: str, name: str = "Typed") -> list[tuple[str, str]]:
    (folder / "filters.py").write_text(KEYED)
    lines = [
        line
        for line in CONFIG.format(name=name, count=1).splitlines()
        if not line.startswith(("        - ", "          name"))
    ]
    text = "\n".join(f"        {settings}" if "limits:" in line else line for line in lines)
    loaded = load_text(text, "c.yaml", yaml=True, config_dir=str(folder))
    assert loaded.config is not None, loaded.faults
    found = check_filters(loaded.config.servers[0].listeners, str(folder))
    return [(fault.path.partition("stream_filters[0]")[2], fault.message) for fault in found]


def test_positions_after_the_keys_of_objects(folder: Path) -> None:
    assert faults_of_keyed(folder, "by_path: {/a.b: {x: [{count: 1}], y z: [{count: 2}, {count: many}]}}") == [
        (".config.by_path./a.b.y z[1].count", "Expected `int`, got `str`")
    ]
    assert faults_of_keyed(folder, "by_path: {fine: {}, not: []}") == [
        (".config.by_path.not", "Expected `object`, got `array`")
    ]
    assert faults_of_keyed(folder, "by_number: {'1': a, x: b}") == [
        (".config.by_number", "Expected `int`, got `str`, as a key")
    ]


def test_a_protocol_that_there_is_not(folder: Path) -> None:
    (fault,) = faults_of_keyed(folder, "limits: []", "Unseen")
    assert fault[1].startswith("protocols: unknown protocol 'HTTP1'; known: Http1, ")


CONTEXTS = """
from contextvars import ContextVar
from pymosn.api import StreamFilter

OWN = ContextVar("own")
OWN.set("module")
seen = []

class Typed(StreamFilter):
    def __init__(self, config):
        OWN.set("constructor")

    async def start(self):
        seen.append(OWN.get("unset"))
        OWN.set("start")
        self.context.create_task(self.watch())

    async def watch(self):
        seen.append(OWN.get("unset"))

    async def stop(self):
        seen.append(OWN.get("unset"))
        OWN.set("stop")
"""


def test_start_and_stop_have_contexts_of_their_own(folder: Path) -> None:
    (folder / "filters.py").write_text(CONTEXTS)
    (built,) = builder(folder, load_text(CONFIG.format(name="Typed", count="2"), "c.yaml", yaml=True)).new()
    seen = sys.modules[type(built.handle.filter).__module__].seen

    async def scenario() -> None:
        assert await start_filters([built]) == []
        await asyncio.sleep(0)
        for _ in range(2):
            built.is_started = True
            await stop_filters([built])

    asyncio.run(scenario())
    assert seen == ["unset", "start", "unset", "unset"]
