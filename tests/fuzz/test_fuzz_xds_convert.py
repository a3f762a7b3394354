"""Random and mutated messages of control planes against the converters.

A converter never raises, what it accepts passes the checks of configuration files without an exception, and what passes
them is built by a worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.xds_messages import Generator
from tests.kit.xds_messages import message_of
from tests.unit.control.xds.test_xds_listeners import CERTIFICATE, listening, manager, tcp

from pymosn.assembly.packer import pack
from pymosn.assembly.prepared import BuildError
from pymosn.assembly.steps import run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.check.paths import Folders, named_paths
from pymosn.config.sds import SecretTexts
from pymosn.control.xds.accepting import faults_of, naming
from pymosn.control.xds.convert.endpoints import ConvertedEndpoints
from pymosn.control.xds.convert.extensions import Extension
from pymosn.control.xds.convert.kinds import KINDS, Item
from pymosn.control.xds.convert.messages import type_of
from pymosn.control.xds.convert.view import Report, View
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET
from pymosn.observe.logs import LogSet

SECONDS = float(os.environ.get("PYMOSN_FUZZ_SECONDS", "0"))
#: Without a time: how many random and how many mutated messages.
RANDOM, MUTATED = 1500, 1200
TYPE = "type.googleapis.com/envoy.extensions."
TABLES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "fixtures" / "xds" / "routes.json").read_text())


def http_filter(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{TYPE}filters.http.{name}", **keys}}


def rules() -> dict[str, Any]:
    permissions = [{"header": {"name": "x-a", "string_match": {"exact": "b"}}}, {"url_path": {"path": {"prefix": "/a"}}}]
    principals = [{"not_id": {"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}}]
    return {"action": "DENY", "policies": {"p": {"permissions": permissions, "principals": principals}}}


FILTERS = [
    http_filter("rbac.v3.RBAC", rules=rules()),
    http_filter("fault.v3.HTTPFault", delay={"fixed_delay": "1s", "percentage": {"numerator": 1}}),
    http_filter("cors.v3.Cors"),
    http_filter("local_ratelimit.v3.LocalRateLimit", token_bucket={"max_tokens": 5, "fill_interval": "1s"}, stat_prefix="a"),
    http_filter("buffer.v3.Buffer", max_request_bytes=1000),
    http_filter("router.v3.Router"),
]
LOG = {
    "name": "log",
    "typed_config": {"@type": f"{TYPE}access_loggers.file.v3.FileAccessLog", "path": "/dev/stdout"},
    "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "k"}}}},
}
TLS = {
    "name": "tls",
    "typed_config": {
        "@type": f"{TYPE}transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [CERTIFICATE], "alpn_protocols": ["h2", "http/1.1"]},
    },
}
END = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}}}, "load_balancing_weight": 2}
ASSIGNMENT = {"cluster_name": "a", "endpoints": [{"lb_endpoints": [END, END], "locality": {"region": "r"}}]}
CHECK = {
    "timeout": "1s",
    "interval": "1s",
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
    "http_health_check": {"path": "/"},
}
LISTENERS = "envoy.config.listener.v3.Listener"
# Types inside an `Any` of the recorded tables, which reading JSON needs.
import_module("envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2")
import_module("envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2")
GOOD: list[tuple[str, str, dict[str, Any]]] = [
    *((ROUTES, "envoy.config.route.v3.RouteConfiguration", table) for table in TABLES),
    (
        LISTENER,
        "envoy.config.listener.v3.Listener",
        listening(manager(http_filters=FILTERS, access_log=[LOG]), access_log=[LOG]),
    ),
    (LISTENER, "envoy.config.listener.v3.Listener", listening(manager(route_config=TABLES[0]))),
    (LISTENER, "envoy.config.listener.v3.Listener", listening({**tcp(access_log=[LOG]), "transport_socket": TLS})),
    (CLUSTER, "envoy.config.cluster.v3.Cluster", {"name": "a", "type": "STATIC", "load_assignment": ASSIGNMENT}),
    (
        CLUSTER,
        "envoy.config.cluster.v3.Cluster",
        {
            "name": "a",
            "type": "EDS",
            "eds_cluster_config": {"eds_config": {"ads": {}}},
            "lb_policy": "RING_HASH",
            "ring_hash_lb_config": {"minimum_ring_size": 64},
            "outlier_detection": {"consecutive_5xx": 3},
            "health_checks": [{**CHECK, "http_health_check": {"path": "/"}}],
            "circuit_breakers": {"thresholds": [{"max_connections": 5}]},
        },
    ),
    (ENDPOINTS, "envoy.config.endpoint.v3.ClusterLoadAssignment", ASSIGNMENT),
    (SECRET, "envoy.extensions.transport_sockets.tls.v3.Secret", {"name": "a", "tls_certificate": CERTIFICATE}),
    (
        EXTENSION,
        "envoy.config.core.v3.TypedExtensionConfig",
        {"name": "a", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"}},
    ),
]


class Judge:
    """Converts messages and builds what is accepted. `accepted`: how many messages were built, by type."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.accepted: dict[str, int] = {}
        self._logs = LogSet(f"{folder}/log", "FATAL")

    def judge(self, type_url: str, message: Any) -> bool:
        """Whether a message is accepted."""
        report = Report()
        item = KINDS[type_url](View(message, "", report))
        if report.faults or faults_of(item):
            return False
        if not any(named_paths(naming(item), Folders("", self.folder))):  # nothing is written elsewhere
            self._build(item)
        self.accepted[type_url] = self.accepted.get(type_url, 0) + 1
        return True

    def _build(self, item: Item) -> None:
        if isinstance(item.block, ConvertedEndpoints | SecretTexts | Extension):
            return  # parts of others
        asyncio.run(self._prepare(naming(item)))

    async def _prepare(self, config: Any) -> None:
        runtime = WorkerRuntime(1, 0, asyncio.get_running_loop(), self._logs)
        try:
            made = run_whole(runtime.prepare(pack(config), self.folder, self.folder))
            run_whole(runtime.discard(made))
        finally:
            await runtime.aclose()


def lasts(number: int, limit: int, start: float) -> bool:
    """Whether to go on after `number` messages."""
    return time.monotonic() - start < SECONDS if SECONDS else number < limit


def test_random_messages(tmp_path: Path) -> None:
    judge, number, start = Judge(tmp_path), 0, time.monotonic()
    while lasts(number, RANDOM, start):
        number += 1
        maker = Generator(number)
        type_url = maker.random.choice(list(KINDS))
        message = maker.message(type_of(type_url))
        try:
            judge.judge(type_url, message)
        except Exception as error:
            pytest.fail(f"seed {number}: {type(error).__name__}: {_text(error)}\n{message}")
    assert len(judge.accepted) >= 3, judge.accepted


def test_mutated_messages(tmp_path: Path) -> None:
    good = [(type_url, message_of(name, value)) for type_url, name, value in GOOD]
    judge, number, start = Judge(tmp_path), 0, time.monotonic()
    for type_url, message in good:
        assert judge.judge(type_url, message), message
    before = sum(judge.accepted.values())
    while lasts(number, MUTATED, start):
        number += 1
        maker = Generator(f"mutation {number}")
        type_url, message = maker.random.choice(good)
        changed = maker.mutated(message, maker.random.choice((1, 1, 1, 2, 3)))
        try:
            judge.judge(type_url, changed)
        except Exception as error:
            pytest.fail(f"mutation {number}: {type(error).__name__}: {_text(error)}\n{changed}")
    assert len(judge.accepted) == len(KINDS)
    assert sum(judge.accepted.values()) - before > number // 20


def _text(error: Exception) -> str:
    return "; ".join(fault.text() for fault in error.faults) if isinstance(error, BuildError) else str(error)
