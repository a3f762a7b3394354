"""Paths on the real program: rewrites and a filter cannot lead past an rbac filter that guards /admin (docs/paths.md)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from process_fixtures import Start
from pymosn_process import READY, _cluster, _listener, eventually, free_ports
from recorder import Recorder

#: Sets the path that the client names; an error is skipped, but not a path that climbs.
FILTER = """
from pymosn.api import StreamFilter

class Sets(StreamFilter):
    on_error = "skip"

    def on_request(self, exchange):
        wanted = exchange.request.headers.get("x-set")
        if wanted is not None:
            exchange.request.path = "/v1/" + wanted

    async def on_host(self, exchange):
        exchange.request.headers["x-seen"] = exchange.request.path
"""
GUARD: dict[str, Any] = {
    "action": "DENY",
    "policies": {
        "no": {
            "permissions": [{"url_path": {"path": {"prefix": prefix}}} for prefix in ("/admin", "/v1/admin")],
            "principals": [{"any": True}],
        }
    },
}
ROUTERS = [
    {"match": {"prefix": "/public"}, "route": {"cluster_name": "service", "prefix_rewrite": "/site/"}},
    {
        "match": {"prefix": "/tenant/"},
        "route": {
            "cluster_name": "service",
            "regex_rewrite": {"pattern": {"regex": "^/tenant/([^/!]*)!?"}, "substitution": "/t/$1"},
        },
    },
    {"match": {"prefix": "/"}, "route": {"cluster_name": "service"}},
]
#: Each request is made on this many connections, so that both workers get some.
TIMES = 8


class Program(NamedTuple):
    """A running program. `ports`: of the listeners, which differ in `merge_slashes`."""

    ports: dict[str, int]
    recorder: Recorder

    def outcomes(self, path: str, fields: str = "", listener: str = "default") -> set[str]:
        """The heads that the upstream got, or the status and reason word of the replies."""
        found = set()
        for _ in range(TIMES):
            with socket.create_connection(("127.0.0.1", self.ports[listener]), 20) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n".encode())
                reply = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
            arrived = self.recorder.take()
            status = reply.split(" ")[1]
            if status == "200":
                ((_, head),) = arrived
                found.add(head.split(b" ")[1].decode())
                assert b"x-seen: " + head.split(b" ")[1] + b"\r\n" in head, "filters of the host see what is sent"
            else:
                assert arrived == []
                word = reply.partition("x-pymosn-reason: ")[2].partition("\r\n")[0]
                found.add(f"{status} {word}".strip())
        return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("paths")
    recorder = Recorder(["service"])
    start = Start(folder)
    names = ("default", "slashes")
    ports = dict(zip(names, free_ports(2), strict=True))
    listeners = [_listener(name, port, "table") for name, port in ports.items()]
    filter_file = folder / "conf" / "sets.py"
    filter_file.parent.mkdir()
    filter_file.write_text(FILTER)
    for listener in listeners:
        settings = {"reason_header": True, "merge_slashes": listener["name"] != "slashes"}
        listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": settings}
        listener["stream_filters"] = [
            {"type": "python", "config": {"path": "sets.py", "class": "Sets"}},
            {"type": "rbac", "config": {"version": "1", "rules": GUARD}},
        ]
    table = {"router_config_name": "table", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": ROUTERS}]}
    clusters = [_cluster("service", recorder.ports["service"])]
    server = {"default_log_path": "stdout", "routers": [table], "listeners": listeners}
    running = start({"servers": [server], "cluster_manager": {"clusters": clusters}}, "--workers", "2")
    running.wait_for(READY)
    assert eventually(lambda: len(running.worker_pids()) == 2)
    yield Program(ports, recorder)
    start.end()
    recorder.close()


BAD = "400 bad_rewrite"


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/admin/x", "403"),
        ("/public/x", "/site/x"),
        ("/public/admin/x", "/site/admin/x"),
        ("/public../admin/x", BAD),
        ("/public%2e%2e/admin/x", BAD),
        ("/public.%2E/admin/x", BAD),
        ("/public..;a/admin/x", BAD),
        ("/public..", BAD),
        ("/public/../admin/x", "403"),
        ("/public./x", "/site/x"),
        ("/public%252e%252e/admin/x", "/site/%252e%252e/admin/x"),
        ("/tenant/a/x", "/t/a/x"),
        ("/tenant/..!/admin", BAD),
        ("/tenant/%2e%2e!/admin", BAD),
        ("/tenant/a!..!/admin", "/t/a..!/admin"),
    ],
)
def test_rewrites_do_not_lead_past_a_guard(program: Program, path: str, outcome: str) -> None:
    assert program.outcomes(path) == {outcome}


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("a", "/v1/a"),
        ("a//b", "/v1/a/b"),
        ("%61dmin", "403"),
        ("./admin", "403"),
        ("/admin", "403"),
        ("../admin", BAD),
        ("%2e%2e/admin", BAD),
        ("..%2fadmin", BAD),
        ("..;/admin", BAD),
        ("a?b", "/"),  # no path: an error of the filter, which is skipped
    ],
)
def test_a_filter_does_not_lead_past_a_guard(program: Program, value: str, outcome: str) -> None:
    assert program.outcomes("/", f"x-set: {value}\r\n") == {outcome}


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/public/a//b", "/site//a//b"),
        ("/a//b", "/a//b"),
        ("/public../admin", BAD),
        ("/public//..;/admin", "400 bad_target"),
    ],
)
def test_doubled_slashes_are_kept_where_the_listener_keeps_them(program: Program, path: str, outcome: str) -> None:
    assert program.outcomes(path, listener="slashes") == {outcome}


def test_a_filter_keeps_them_too(program: Program) -> None:
    assert program.outcomes("/", "x-set: a//b\r\n", "slashes") == {"/v1/a//b"}
