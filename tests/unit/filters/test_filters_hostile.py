"""Filters whose import, classes and life fail in every way: loaded, built, started and stopped without harm to others."""

from __future__ import annotations

import asyncio
import enum
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from tests.kit.fakes import Lines
from tests.kit.hostile_errors import KINDS, Text, make

from pymosn.api import StreamFilter
from pymosn.api.stream_filter import FilterContext
from pymosn.assembly.filters import BuiltFilter, FilterBuilder, modules_on_disk, stop_filters
from pymosn.config.schema import Listener
from pymosn.core.counters import Metrics
from pymosn.core.redaction import KnownSecrets
from pymosn.filters.collectors import Registrations
from pymosn.filters.errors import FilterConfigError, FilterLoadError, describe, problems_of
from pymosn.filters.loading import is_filter, load_filter
from pymosn.filters.modules import is_in_class, source_file
from pymosn.filters.secret_fields import secret_fields
from pymosn.proxy.stream_filters import FilterHandle, StreamFilters

kinds = pytest.mark.parametrize("kind", list(KINDS))

HEAD = "from tests.kit.hostile_errors import make\nfrom pymosn.api import StreamFilter\n"

#: By place: the text of a file, whose last line is the one that raises.
FILES = {
    "import": "class F(StreamFilter): pass\nraise make({kind!r})",
    "attribute": "def __getattr__(name):\n    raise make({kind!r})",
    "init": "class F(StreamFilter):\n  def __init__(self, config):\n    raise make({kind!r})",
    "new": "class F(StreamFilter):\n  def __new__(cls, config):\n    raise make({kind!r})",
    "struct": (
        "import msgspec\nclass F(StreamFilter):\n  class Config(msgspec.Struct):\n    def __post_init__(self):\n"
        "      raise make({kind!r})"
    ),
    "pydantic": (
        "import pydantic\nclass F(StreamFilter):\n  class Config(pydantic.BaseModel):\n    a: int = 1\n"
        "    @pydantic.model_validator(mode='after')\n    def check(self):\n      raise make({kind!r})"
    ),
    "class": "class M(type):\n  @property\n  def Config(cls):\n    raise make({kind!r})",
}


@kinds
@pytest.mark.parametrize("place", list(FILES))
def test_loading(tmp_path: Path, place: str, kind: str) -> None:
    file = tmp_path / "hostile.py"
    text = HEAD + FILES[place].format(kind=kind)
    line = len(text.splitlines())
    if place == "class":
        text += "\nclass F(StreamFilter, metaclass=M): pass"
    file.write_text(text + "\n")
    with pytest.raises(FilterLoadError) as caught:
        load_filter(file, "F", {})
    said = str(caught.value)
    if not isinstance(caught.value, FilterConfigError):
        assert f"{file}:{line}: " in said
    assert KINDS[kind][1] in said


@pytest.mark.parametrize("made", ["5", "None", "object()", "Other()"])
def test_a_class_that_makes_something_else(tmp_path: Path, made: str) -> None:
    file = tmp_path / "hostile.py"
    file.write_text(
        f"{HEAD}class Other:\n  __class__ = StreamFilter\nclass F(StreamFilter):\n  def __new__(cls, config):\n"
        f"    return {made}\n"
    )
    with pytest.raises(FilterLoadError, match=r"hostile.py:F makes \w+, not a stream filter"):
        load_filter(file, "F", {})


class Lazy:
    """Raises when it is asked for anything, like the proxies of some frameworks outside of their context."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt


def test_lazy_objects_in_a_module(tmp_path: Path) -> None:
    file = tmp_path / "hostile.py"
    file.write_text("from tests.unit.filters.test_filters_hostile import Lazy\nlazy = Lazy()\n")
    with pytest.raises(FilterLoadError, match="has no class 'F'"):
        load_filter(file, "F", {})
    assert not is_filter(Lazy())


@pytest.mark.parametrize("made", ["None", "5", "type('Slots', (), {'__slots__': ()})()"])
def test_a_module_that_replaces_itself_and_has_no_class(tmp_path: Path, made: str) -> None:
    file = tmp_path / "hostile.py"
    file.write_text(f"import sys\nsys.modules[__name__] = {made}\n")
    with pytest.raises(FilterLoadError, match="has no class 'F'"):
        load_filter(file, "F", {})


@pytest.fixture
def lazy_module() -> Iterator[None]:
    class Module(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit

    sys.modules["lazy_of_test"] = Module("lazy_of_test")
    yield
    del sys.modules["lazy_of_test"]


@pytest.mark.usefixtures("lazy_module")
def test_lazy_modules_elsewhere_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "good.py"
    file.write_text(HEAD + "class F(StreamFilter): pass\n")
    made = load_filter(file, "F", {})
    assert source_file(type(made)) == str(file)


def test_lazy_attributes_of_a_class_do_not_hide_its_methods() -> None:
    class F(StreamFilter):
        lazy = Lazy()

        def on_complete(self, exchange: object) -> None:
            pass

    line = F.on_complete.__code__.co_firstlineno
    assert is_in_class(F, __file__, line)


@kinds
def test_settings_that_cannot_be_read_are_secret(kind: str) -> None:
    class Meta(type):
        @property
        def __dataclass_fields__(cls) -> Any:
            raise make(kind)

    class Config(metaclass=Meta):
        pass

    assert secret_fields(Config) == {()}


# ---- errors of filters that are like pymosn's own


class OwnProblems(FilterConfigError):
    def __init__(self, problems: Any) -> None:
        Exception.__init__(self, "own")
        self.found = problems

    @property
    def problems(self) -> Any:  # type: ignore[override]
        if self.found is None:
            raise KeyboardInterrupt
        return self.found


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        ([(".a", "bad")], [(".a", "bad")]),
        (None, [("", "own")]),
        (5, [("", "own")]),
        ([("x",)], [("", "own")]),
        ([(1, 2)], [("", "own")]),
    ],
)
def test_problems_of_an_own_class(problems: Any, expected: list[tuple[str, str]]) -> None:
    found = problems_of(OwnProblems(problems))
    assert found == expected
    assert all(type(text) is str for pair in found for text in pair)


def test_problems_with_texts_of_an_own_class() -> None:
    ((path, text),) = problems_of(OwnProblems([(Text(".a"), Text("\ud800"))]))
    assert (type(path), type(text)) == (str, str)
    assert (path, text) == (".a", r"\ud800")


class OwnSyntaxError(SyntaxError):
    @property
    def filename(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt


def test_a_syntax_error_of_an_own_class() -> None:
    assert describe(OwnSyntaxError("odd")) == "OwnSyntaxError: odd"


# ---- life


class Lives(StreamFilter):
    def __init__(self, kind: str = "", waits: bool = False) -> None:
        super().__init__({})
        self.kind = kind
        self.waits = waits
        self.is_stopped = False

    async def start(self) -> None:
        if self.waits:
            await asyncio.sleep(0)
        if self.kind:
            raise make(self.kind)

    async def stop(self) -> None:
        self.is_stopped = True
        if self.waits:
            await asyncio.sleep(0)
        if self.kind:
            raise make(self.kind)


def built(entry: StreamFilter, log: Lines) -> BuiltFilter:
    context = FilterContext("f", log, {})
    entry.context = context
    return BuiltFilter(FilterHandle("f", entry, Metrics()), "path", context, KnownSecrets(), Registrations())


@kinds
@pytest.mark.parametrize("waits", [False, True])
def test_start_and_stop(kind: str, waits: bool) -> None:
    log = Lines()
    bad, good = Lives(kind, waits), Lives()

    async def live() -> list[Any]:
        first, second = built(bad, log), built(good, log)
        faults = [*await first.start(), *await second.start()]
        first.is_started = True
        await stop_filters([first, second])
        return faults

    (fault,) = asyncio.run(live())
    said = KINDS[kind][1]
    assert fault.message.startswith("filter 'f' does not start: ")
    assert f"{__file__}:" in fault.message
    assert said in fault.message
    (line,) = [line for line in log.lines if "`stop` failed: " in line]
    assert said in line
    assert bad.is_stopped
    assert good.is_stopped


class Stuck(Lives):
    """Neither stops nor can be cancelled."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self.gate = gate

    async def stop(self) -> None:
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.waits = True


def test_one_that_does_not_stop_does_not_keep_the_others_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymosn.assembly.filters.STOP_TIME", 0.05)
    log = Lines()
    good = Lives()

    async def live() -> None:
        gate = asyncio.Event()
        filters = [built(Stuck(gate), log), built(good, log)]
        for entry in filters:
            assert await entry.start() == []
        stopping = asyncio.ensure_future(stop_filters(filters))
        await asyncio.sleep(0.01)
        assert good.is_stopped
        await stopping
        gate.set()

    asyncio.run(live())
    assert any("`stop` did not finish within 0.05 s" in line for line in log.lines)


#: Tasks pass two kinds on to whoever runs the loop. Workers ignore them there: tests/system/test_filter_exceptions.py.
in_tasks = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("interrupt", "exit")])


@in_tasks
def test_background_tasks(kind: str) -> None:
    log = Lines()

    async def live() -> None:
        entry = Lives()
        made = built(entry, log)

        async def work() -> None:
            await asyncio.Event().wait()

        async def fails() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise make(kind)

        tasks = [entry.context.create_task(work()), entry.context.create_task(fails())]
        assert await made.start() == []
        await asyncio.sleep(0)
        await made.stop()
        assert all(task.done() for task in tasks)
        assert entry.is_stopped

    asyncio.run(live())
    lines = [line for line in log.lines if "background task failed" in line]
    assert len(lines) == (0 if kind == "cancelled" else 1)


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("key", "name"), [(lambda: Colour.RED, "red"), (lambda: Text("red"), "red"), (lambda: "\ud800", r"\ud800")]
)
def test_the_name_of_a_counter_can_be_reported(key: Callable[[], str], name: str) -> None:
    group = Metrics().group("filter", ("filter", "f"))
    FilterContext("f", Lines(), {}, metrics=group).counter(key()).value += 1
    counters = group.data()["counters"]
    msgspec.json.encode(counters)
    assert counters == {name: 1}
    assert all(type(found) is str for found in counters)


# ---- classes


@kinds
@pytest.mark.parametrize("name", ["on_error", "timeout", "protocols", "changes_length", "on_request", "on_complete"])
def test_building_a_filter_with_a_property_that_raises(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / "hostile.py"
    file.write_text(
        f"{HEAD}class F(StreamFilter):\n  @property\n  def {name}(self):\n    raise make({kind!r})\n"
        "class Good(StreamFilter): pass\n"
    )
    entries = [{"type": "python", "config": {"path": str(file), "class": made}} for made in ("F", "Good")]
    listener = msgspec.convert({"stream_filters": entries}, Listener)
    builder = FilterBuilder(str(tmp_path), Metrics(), Lines(), {}, {}, modules_on_disk([listener], str(tmp_path)))
    chain = builder.chain(listener, "path")
    (fault,) = builder.faults
    assert f"{file}:6: " in fault.message
    assert KINDS[kind][1] in fault.message
    assert [handle.name for handle in chain.all] == ["Good"]


def test_attributes_are_read_once() -> None:
    """A property that succeeds at first cannot fail at a change, or at a request."""

    class Once(StreamFilter):
        reads: list[str] = []

        @property
        def protocols(self) -> Any:  # type: ignore[override]
            self.reads.append("protocols")
            assert self.reads.count("protocols") == 1
            return ("Http1",)

        @property
        def on_request(self) -> Any:  # type: ignore[override]
            self.reads.append("on_request")
            assert self.is_new
            return lambda exchange: None

        is_new = True

    entry = Once({})
    handle = FilterHandle("f", entry, Metrics())
    entry.is_new = False
    chain = StreamFilters([handle])
    assert len(chain.for_protocol("Http1").on_request) == 1
    assert chain.for_protocol("bolt").all == []
