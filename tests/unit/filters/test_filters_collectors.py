"""Prometheus collectors of filters: a change registers the same names again; a rejected one restores the old collectors."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pymosn import api
from pymosn.assembly.filters import BuiltFilter, FilterBuilder, FilterKey
from pymosn.assembly.prepared import BuildError, PreparedConfig
from pymosn.config.schema import Listener, Overload, StreamFilter, WorkerLimits
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.filters import loading
from pymosn.filters.modules import ModuleStore

prometheus_client = pytest.importorskip("prometheus_client")

#: Where a filter registers: at the top of its module, in `__init__`, in `start`, in a task of `start`, and at a request.
MODULE = """
from prometheus_client import Counter
from pymosn.api import StreamFilter
SEEN = Counter("test_sources_module", "x")
class F(StreamFilter):
    EXTRA
"""
INIT = """
from prometheus_client import Counter
from pymosn.api import StreamFilter
class F(StreamFilter):
    def __init__(self, config):
        self.seen = Counter("test_sources_init", "x")
    EXTRA
"""
START = """
from pymosn.api import StreamFilter
class F(StreamFilter):
    async def start(self):
        import helper
        self.seen = helper.make()
    EXTRA
"""
TASK = """
import asyncio
from pymosn.api import StreamFilter
class F(StreamFilter):
    async def start(self):
        import helper
        async def later():
            self.seen = helper.make()
        await asyncio.create_task(later())
    EXTRA
"""
REQUEST = """
from prometheus_client import Counter
from pymosn.api import StreamFilter
class F(StreamFilter):
    def use(self):
        self.seen = Counter("test_sources_request", "x")
    EXTRA
"""
HELPER = "from prometheus_client import Counter\ndef make():\n    return Counter('test_sources_helper', 'x')\n"


class Stage:
    """A worker whose filters are built and started like those of a change."""

    def __init__(self) -> None:
        self.store = ModuleStore()
        self.active: dict[FilterKey, BuiltFilter] = {}

    def prepare(self, text: str, helper: str = HELPER, **config: object) -> PreparedConfig:
        """Raises BuildError."""
        modules = self.store.draft({"/f": {"f.py": text.encode(), "helper.py": helper.encode()}})
        builder = FilterBuilder("/f", Metrics(), Log(), {}, self.active, modules)
        config = {"path": "f.py", "class": "F", **config} if text else config
        entry = StreamFilter(type="python" if text else "acme", config=config)
        listener = Listener(name="l", stream_filters=[entry])
        builder.note_replaced([listener])
        builder.chain(listener, "l")
        made = PreparedConfig(None, WorkerLimits(), Overload())
        made.modules, made.filters, made.new_filters = modules, builder.built, builder.new()
        if builder.faults:
            modules.rollback()
            raise BuildError(builder.faults)
        asyncio.run(made.start_filters())
        return made

    def commit(self, made: PreparedConfig) -> Any:
        assert made.modules is not None
        made.modules.commit().forget()
        self.active = made.filters
        (built,) = made.filters.values()
        return built.handle.filter

    def change(self, text: str, helper: str = HELPER, **config: object) -> Any:
        return self.commit(self.prepare(text, helper, **config))


def names() -> set[str]:
    """The names of this file's collectors that are registered."""
    return {family.name for family in prometheus_client.REGISTRY.collect() if family.name.startswith("test_sources")}


def value(name: str) -> float | None:
    found: float | None = prometheus_client.REGISTRY.get_sample_value(f"{name}_total")
    return found


def counter(stage: Stage) -> Any:
    """The collector of the active filter."""
    (built,) = stage.active.values()
    known = [*vars(built.handle.filter).values(), *vars(stage.store.folders["/f"].modules["f"].module).values()]
    return next(value for value in known if isinstance(value, prometheus_client.Counter))


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.store.draft({}).commit().forget()
    for built in made.active.values():
        built.registered.remove()
    assert names() == set()


EVERY = pytest.mark.parametrize("text", [MODULE, INIT, START, TASK], ids=["module", "init", "start", "task"])


@EVERY
def test_the_same_name_again_and_again(stage: Stage, text: str) -> None:
    for number in range(4):
        stage.change(text.replace("EXTRA", f"NUMBER = {number}"))
        (name,) = names()
        assert value(name) == 0.0
        counter(stage).inc()
        assert value(name) == 1.0, "the registry has the collector of the new version"


@EVERY
def test_new_settings_alone_make_a_new_filter(stage: Stage, text: str) -> None:
    first = stage.change(text.replace("EXTRA", "pass"), a=1)
    assert stage.change(text.replace("EXTRA", "pass"), a=2) is not first
    assert len(names()) == 1


@EVERY
def test_a_rejected_change_restores_the_old_collectors(stage: Stage, text: str) -> None:
    stage.change(text.replace("EXTRA", "pass"))
    (name,) = names()
    counter(stage).inc(5)
    broken = [text.replace("EXTRA", "1 / 0"), text.replace("EXTRA", "def __init__(self, config): 1 / 0")]
    for bad in [*broken, text.replace("EXTRA", "async def start(self): 1 / 0")]:
        with pytest.raises(BuildError):
            stage.prepare(bad)
        assert value(name) == 5.0
    made = stage.prepare(text.replace("EXTRA", "NEW = 1"))
    asyncio.run(made.stop_filters())
    assert value(name) == 5.0, "another worker could not build it"
    assert names() == {name}


def test_what_the_new_version_does_not_register_is_gone(stage: Stage) -> None:
    stage.change(MODULE.replace("EXTRA", "OTHER = Counter('test_sources_other', 'x')"))
    assert names() == {"test_sources_module", "test_sources_other"}
    made = stage.prepare(MODULE.replace("EXTRA", "pass"))
    assert names() == {"test_sources_module", "test_sources_other"}, "it stays until the change is active"
    stage.commit(made)
    assert names() == {"test_sources_module"}


def test_a_collector_that_moves_to_another_module(stage: Stage) -> None:
    stage.change(MODULE.replace("EXTRA", "pass"))
    moved = MODULE.replace('SEEN = Counter("test_sources_module", "x")', "from helper import SEEN").replace("EXTRA", "pass")
    stage.change(moved, HELPER + "SEEN = Counter('test_sources_module', 'x')\n")
    assert names() == {"test_sources_module"}


def test_one_of_a_request_makes_room_too(stage: Stage) -> None:
    for number in range(3):
        stage.change(REQUEST.replace("EXTRA", f"NUMBER = {number}")).use()
        assert names() == {"test_sources_request"}


def test_an_installed_filter_with_other_settings(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    class F(api.StreamFilter):
        def __init__(self, config: object) -> None:
            self.seen = prometheus_client.Counter("test_sources_installed", "x")

    class Point:
        name, value, load = "acme", "acme:F", lambda self: F

    monkeypatch.setattr(loading, "entry_points_of", lambda group: [Point()])
    first = stage.change("", a=1)
    assert stage.change("", a=2) is not first
    assert names() == {"test_sources_installed"}


def test_two_modules_with_one_name_are_an_error(stage: Stage) -> None:
    both = MODULE.replace("EXTRA", "pass") + "import helper\n"
    with pytest.raises(BuildError, match="Duplicated timeseries"):
        stage.prepare(both, HELPER + "Counter('test_sources_module', 'x')\n")
    assert names() == set()


def test_a_filter_that_unregisters_in_stop(stage: Stage) -> None:
    text = INIT.replace(
        "EXTRA", "def end(self):\n        import prometheus_client\n        prometheus_client.REGISTRY.unregister(self.seen)"
    )
    first = stage.change(text)
    second = stage.change(text + "# new")
    first.end()
    assert names() == {"test_sources_init"}
    second.end()
    assert names() == set()
    stage.change(text + "# newer")


def test_names_of_others_are_an_error_and_stay(stage: Stage) -> None:
    other = prometheus_client.Counter("test_sources_module", "of no filter")
    try:
        with pytest.raises(BuildError, match="Duplicated timeseries"):
            stage.prepare(MODULE.replace("EXTRA", "pass"))
        assert names() == {"test_sources_module"}
    finally:
        prometheus_client.REGISTRY.unregister(other)
    assert names() == set()
