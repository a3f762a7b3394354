"""pymosn's own keys in configuration files, each with values of other types and extremes.

The file is rejected with the path of the error, or accepted. What is accepted is shown without an error; its router tables
are built, and some of it by a worker. With `PYMOSN_FUZZ_SECONDS` all keys and values are tried, for at most that time.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.fuzz.test_fuzz_xds_convert import SECONDS, Judge

from pymosn.assembly.prepared import BuildError
from pymosn.assembly.routes import build_table
from pymosn.config.check.paths import Folders, named_paths
from pymosn.config.compatibility import own_keys
from pymosn.config.dump import dump
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.network_filters import ProxyConfig

pytestmark = pytest.mark.timeout(SECONDS * 2 + 240)
#: How many values are tried without a time; each takes 2 ms. One of how many accepted configurations is built by a worker.
NUMBER, BUILT = 1500, 10
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, 5e-324),
    *(
        "",
        " ",
        "x",
        "0",
        "-1",
        "1s",
        "1e9999s",
        "-5m",
        "0s",
        "1ns",
        "9" * 400 + "h",
        "\x00",
        "\n",
        "\u212a",
        "\ud7ff",
        "\u202e",
    ),
    *(
        "a" * 5000,
        "." * 5000,
        "%" * 5000,
        "(",
        "[",
        "*",
        "%",
        "%{",
        "/../x",
        "((a+)+)+$",
        "\\9",
        "[::1]:99999",
        "0.0.0.0/33",
    ),
    *([], {}, [[]], [{}], [None], [0, "x"], ["x", "x"], ["", "\x00"], [1e308, -1], {"": ""}, {"x": {"y": []}}, {"x": None}),
)
ROUTE: Final = {"name": "n", "match": {"prefix": "/"}, "route": {"cluster_name": "c"}}
PROXY: Final = {"type": "proxy", "config": {"downstream_protocol": "Auto", "router_config_name": "r"}}
LISTENER: Final = {"name": "l", "address": "127.0.0.1:1", "filter_chains": [{"filters": [PROXY]}]}
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
PATHS: Final = [(*base, *keys) for cls, base in BLOCKS.items() for keys in own_keys(cls)]


def placed(path: Keys, value: Any) -> dict[str, Any]:
    """BASE with a value; the blocks around it that are missing are added."""
    whole = copy.deepcopy(BASE)
    place: Any = whole
    for i, key in enumerate(path[:-1]):
        missing: Any = [] if isinstance(path[i + 1], int) else {}
        if isinstance(place, list):
            if not place:
                place.append(missing)
            place = place[0]
        else:
            place = place.setdefault(key, missing)
    if isinstance(place, list):
        place[:] = [value]
    else:
        place[path[-1]] = value
    return whole


def checked(path: Keys, value: Any, folder: Path) -> MosnConfig | None:
    """The configuration with a value; None if it is rejected."""
    loaded = load_text(json.dumps(placed(path, value)), "c.json", config_dir=str(folder))
    for fault in loaded.faults:
        assert fault.path or fault.line, fault
        assert fault.message
        assert "Traceback" not in fault.message
        fault.text().encode()
    if loaded.config is None:
        assert loaded.errors
        return None
    json.dumps(dump(loaded.config))
    for table in loaded.config.servers[0].routers:
        build_table(table)
    return loaded.config


class Builder(Judge):
    """Builds configurations as a worker does."""

    built = 0

    def build(self, config: MosnConfig) -> None:
        """A BuildError is a clear error, such as that of a file that is missing, if it has a path."""
        if any(named_paths(config, Folders("", self.folder))):
            return  # nothing is written elsewhere
        self.built += 1
        try:
            asyncio.run(self._prepare(config))
        except BuildError as error:
            if not all(fault.path for fault in error.faults):
                raise


def tries() -> Iterator[tuple[Keys, Any]]:
    """All keys with all values, in an order that a seed gives."""
    found = [(path, value) for path in PATHS for value in VALUES]
    random.Random(16).shuffle(found)
    return iter(found if SECONDS else found[:NUMBER])


def test_there_are_keys() -> None:
    assert len(PATHS) > 300
    assert len(PATHS) == len(set(PATHS))


def test_odd_values(tmp_path: Path) -> None:
    builder, counts, start = Builder(tmp_path), Counter[bool](), time.monotonic()
    for path, value in tries():
        if SECONDS and time.monotonic() - start > SECONDS:
            break
        try:
            config = checked(path, value, tmp_path)
            counts[config is not None] += 1
            if config is not None and counts[True] % BUILT == 0:
                builder.build(config)
        except Exception as error:
            pytest.fail(f"{'.'.join(map(str, path))} = {value!r:.60}: {type(error).__name__}: {error}")
    assert min(counts[True], counts[False]) > 100, counts
    assert builder.built
