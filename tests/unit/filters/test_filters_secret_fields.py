"""Fields that a filter marks `Secret` are shown nowhere: not in dumps, errors and descriptions."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from pymosn.api import Secret
from pymosn.assembly.filters import FilterBuilder, modules_on_disk
from pymosn.config.dump import dump, filter_id
from pymosn.config.schema import Listener, StreamFilter
from pymosn.config.schema.router import VirtualHost
from pymosn.core.counters import Metrics
from pymosn.core.log import Log
from pymosn.core.secrets import REDACTED
from pymosn.filters.secret_fields import secret_fields, without_marked
from pymosn.kit.schema import config_schema


class Inner(msgspec.Struct):
    pin: Secret[int] = 0
    next: "Inner | None" = None


class Settings(msgspec.Struct):
    seed: Secret[str]
    plain: str = ""
    renamed: Secret[str] = msgspec.field(default="", name="otherName")
    many: list[Secret[str]] = []
    inner: dict[str, Inner] = {}
    both: Annotated[Secret[str] | None, msgspec.Meta(description="d")] = None


@dataclasses.dataclass
class Data:
    seed: Secret[str]
    rest: str = ""


class Typed(TypedDict):
    seed: Secret[str]
    rest: str


PATHS = {("seed",), ("otherName",), ("renamed",), ("many", "*"), ("inner", "*", "pin"), ("both",)}


def test_marked_fields() -> None:
    assert secret_fields(Settings) == PATHS
    assert secret_fields(Data) == secret_fields(Typed) == {("seed",)}
    assert secret_fields(None) == secret_fields(dict) == frozenset()


def test_models_of_pydantic() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        seed: Secret[str]
        other: pydantic.SecretStr  # type: ignore[name-defined]
        rest: str = ""

    assert secret_fields(Model) == {("seed",), ("other",)}


def test_unreadable_annotations_make_everything_secret() -> None:
    class Broken:
        __total__ = True
        seed: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821

    assert without_marked({"seed": "a"}, secret_fields(Broken), print) == REDACTED


def test_the_values_of_marked_fields_are_kept_apart() -> None:
    found: list[Any] = []
    config = {"Seed": "a", "plain": "b", "many": ["c"], "inner": {"x": {"pin": 5, "next": {}}}, "both": None}
    assert without_marked(config, PATHS, found.append) == {
        "Seed": REDACTED,
        "plain": "b",
        "many": [REDACTED],
        "inner": {"x": {"pin": REDACTED, "next": {}}},
        "both": None,
    }
    assert found == ["a", "c", 5]


def test_a_dump_knows_the_marks_of_filters() -> None:
    entry = StreamFilter(type="python", config={"path": "f.py", "class": "F", "seed": "a", "plain": "b"})
    marks = {filter_id(entry): frozenset([("seed",)])}
    shown = dump(Listener(stream_filters=[entry]), marks=marks)["stream_filters"][0]["config"]
    assert shown == {"path": "f.py", "class": "F", "seed": REDACTED, "plain": "b"}
    host = VirtualHost(per_filter_config={"any": {"seed": "a", "list": [{"seed": "b", "plain": "c"}]}})
    assert dump(host, marks=marks)["per_filter_config"]["any"] == {
        "seed": REDACTED,
        "list": [{"seed": REDACTED, "plain": "c"}],
    }


class Lines(Log):
    def __init__(self) -> None:
        super().__init__()
        self.hidden: list[object] = []

    def hide(self, secret: object) -> None:
        self.hidden.append(secret)


FILTER = """
import msgspec
from pymosn.api import Secret, StreamFilter

class Settings(msgspec.Struct):
    seed: Secret[str] = ""
    count: int = 0

class F(StreamFilter):
    Config = Settings
    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if config.count:
            raise ValueError(f"{config!r}: {config.seed}")
"""


@pytest.mark.parametrize("count", [0, 1, "no number"])
def test_errors_and_logs_of_a_filter(tmp_path: Path, count: object) -> None:
    (tmp_path / "f.py").write_text(FILTER)
    log = Lines()
    config = {"path": "f.py", "class": "F", "seed": "swordfish", "count": count}
    listener = Listener(stream_filters=[StreamFilter(type="python", config=config)])
    builder = FilterBuilder(str(tmp_path), Metrics(), log, {}, {}, modules_on_disk([listener], str(tmp_path)))
    builder.chain(listener, "l")
    assert len(builder.faults) == (0 if count == 0 else 1)
    assert "swordfish" not in str(builder.faults)
    if count == 0:
        assert log.hidden == ["swordfish"]
        assert list(builder.marks.values()) == [{("seed",)}]


def test_descriptions_show_no_defaults_of_secrets() -> None:
    class Defaults(msgspec.Struct):
        seed: Secret[str] = "a"
        api_key: str = "b"
        plain: str = "c"

    schema = config_schema(Defaults)
    assert schema is not None
    fields = schema["$defs"]["Defaults"]["properties"]
    assert [fields[name]["default"] for name in ("seed", "api_key", "plain")] == [REDACTED, REDACTED, "c"]
