"""Keys that docs/compatibility.md calls planned or without effect: each is reported, or the block around it."""

from __future__ import annotations

import copy
from typing import Any, Final

import msgspec
import pytest
from msgspec import inspect

from pymosn.config.compatibility import keys_without_effect
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.network_filters import ProxyConfig

PROXY: Final = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
LISTENER: Final = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [{"filters": [PROXY]}]}
ROUTE: Final = {"name": "n", "match": {"prefix": "/"}, "route": {"cluster_name": "c"}}
TABLE: Final = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [ROUTE]}]}
CLUSTER: Final = {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [{"address": "10.0.0.1:2"}]}
BASE: Final[dict[str, Any]] = {
    "servers": [{"default_log_path": "stdout", "listeners": [LISTENER], "routers": [TABLE]}],
    "cluster_manager": {"clusters": [CLUSTER]},
}
Keys = tuple[str | int, ...]
#: A block -> its path in BASE. The settings of a network filter depend on its type.
BLOCKS: Final[dict[type, Keys]] = {
    MosnConfig: (),
    ProxyConfig: ("servers", 0, "listeners", 0, "filter_chains", 0, "filters", 0, "config"),
}
KEYS: Final = [((*base, *keys), kind) for cls, base in BLOCKS.items() for keys, kind in keys_without_effect(cls)]


#: Replaced by a duration, or by a number where that is invalid.
NUMBER: Final = "7s"


def significant(kind: inspect.Type) -> Any:
    """A value of a type that is not the default."""
    if isinstance(kind, inspect.Metadata):
        return significant(kind.type)
    if isinstance(kind, inspect.UnionType):
        return significant(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
    if isinstance(kind, inspect.StructType):
        field = kind.fields[0]
        return {field.encode_name: significant(field.type)}
    if isinstance(kind, inspect.ListType):
        return [significant(kind.item_type)]
    if isinstance(kind, inspect.DictType):
        return {"x": significant(kind.value_type)}
    plain = {inspect.BoolType: True, inspect.IntType: 7, inspect.FloatType: NUMBER, inspect.StrType: "seven"}
    return plain.get(type(kind), {"x": "seven"})


def placed(path: Keys, value: Any) -> str:
    """BASE with a value; the blocks around it that are missing are added."""
    whole = copy.deepcopy(BASE)
    here: Any = whole
    for i, key in enumerate(path[:-1]):
        missing: Any = [] if isinstance(path[i + 1], int) else {}
        if isinstance(here, list):
            if not here:
                here.append(missing)
            here = here[0]
        else:
            here = here.setdefault(key, missing)
    here[path[-1]] = value
    return msgspec.json.encode(whole).decode()


def dotted(path: Keys) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


@pytest.mark.parametrize(("path", "kind"), KEYS, ids=[dotted(path) for path, _ in KEYS])
def test_a_key_without_effect_is_reported(path: Keys, kind: inspect.Type) -> None:
    value = significant(kind)
    faults = load_text(placed(path, value), "mosn.json").faults
    if value == NUMBER and any("expected a number" in one.message for one in faults):
        faults = load_text(placed(path, 7), "mosn.json").faults
    idle = [one.path for one in faults if "has no effect" in one.message]
    assert any(one == dotted(path) or dotted(path).startswith((f"{one}.", f"{one}[")) for one in idle), faults


def test_there_are_such_keys_of_all_kinds() -> None:
    found = {dotted(path).rpartition(".")[2] for path, _ in KEYS}
    assert {"plugin", "spec", "router_handler_name", "upstream_protocol", "log_path"} <= found
