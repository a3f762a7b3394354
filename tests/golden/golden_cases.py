"""The golden cases: each file in `routes/` is a router and what becomes of requests; add a file to add cases.

`router`: a router table as in a configuration (its name may be left out). `cases`: a request, written as
`METHOD URL | Header: value | ...`, and what is expected: the route as `virtual host/place`, a status of our own reply, or
an object with any of route, cluster, path, host, status, reason, location, sent and replied (header fields, null for none)
and set_cookie (of a hash policy). A text that begins with `~` is a regular expression. The client is 127.0.0.7.

Every cluster that is named exists, but those that begin with `missing`; more can be named in `clusters`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pymosn.control.explain import Question

FILES = sorted(Path(__file__).parent.glob("routes/*.yaml"))
CLIENT = "127.0.0.7"


class GoldenFile:
    """One file: its name, its router (called by the file's name) and its cases."""

    def __init__(self, path: Path) -> None:
        content = yaml.safe_load(path.read_text())
        self.name = path.stem
        self.router: dict[str, Any] = {"router_config_name": self.name, **content["router"]}
        self.cases: dict[str, Any] = content["cases"]
        self.clusters = {name for name in _clusters(content) if not name.startswith("missing")}


def _clusters(content: dict[str, Any]) -> set[str]:
    found = set(content.get("clusters", []))
    for host in content["router"]["virtual_hosts"]:
        for route in host.get("routers", []):
            action = route.get("route") or {}
            found |= {action["cluster_name"]} if action.get("cluster_name") else set()
            found |= {entry["cluster"]["name"] for entry in action.get("weighted_clusters", [])}
    return found


GOLDEN = [GoldenFile(path) for path in FILES]


def question(text: str, listener: str) -> Question:
    """A request as it is written in the files."""
    first, *fields = [part.strip() for part in text.split(" | ")]
    method, url = first.split(" ", 1)
    pairs = [(field.partition(":")[0], field.partition(":")[2].strip()) for field in fields]
    return Question(method=method, url=url, headers=pairs, client=CLIENT, listener=listener)


def configuration(addresses: dict[str, str], hosts: dict[str, str]) -> dict[str, Any]:
    """One configuration of all files: a listener and a router of each, by its name.

    `addresses`: of the listeners, by name. `hosts`: the address of the one host of each cluster.
    """
    listeners = [
        {
            "name": golden.name,
            "address": addresses[golden.name],
            "bind_port": True,
            "filter_chains": [{"filters": [{"type": "proxy", "config": _proxy(golden.name)}]}],
        }
        for golden in GOLDEN
    ]
    clusters = [
        {"name": name, "hosts": [{"address": hosts[name], "hostname": f"{name}.host"}]} for name in sorted(all_clusters())
    ]
    server = {"listeners": listeners, "routers": [golden.router for golden in GOLDEN]}
    return {"servers": [server], "cluster_manager": {"clusters": clusters}}


def _proxy(name: str) -> dict[str, Any]:
    return {
        "router_config_name": name,
        "downstream_protocol": "Http1",
        "extend_config": {"Http1": {"reason_header": True}},
    }


def all_clusters() -> set[str]:
    """The names of all clusters that exist."""
    return set().union(*[golden.clusters for golden in GOLDEN])


def wanted(expected: Any) -> dict[str, Any]:
    """What is expected of a case, as an object."""
    if isinstance(expected, dict):
        return expected
    return {"status" if isinstance(expected, int) else "route": expected}


def meets(found: Any, expected: Any) -> bool:
    """Whether a value is the expected one."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(meets(found.get(key), value) for key, value in expected.items())
    if isinstance(expected, str) and expected.startswith("~"):
        return isinstance(found, str) and re.search(expected[1:], found) is not None
    return bool(found == expected)
