"""Active health checks and STRICT_DNS on the real program."""

import asyncio
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from plain_sockets import dead_sockets, port_of
from process_fixtures import Start
from pymosn_process import READY, TwoHops, Upstream, eventually
from tests.unit.control.dns_server import DnsServer

pytestmark = pytest.mark.once

#: Timeout of a check, so that a host that is only slow, as on a busy machine, never fails one.
LONG = "30s"


def hosts(hops: TwoHops) -> dict[str, str]:
    """Address -> health of the hosts of cluster `server`."""
    (cluster,) = json.loads(hops.admin("/api/v1/clusters?name=server"))
    return {host["address"]: host["health"] for host in cluster["hosts"]}


def server_cluster(hops: TwoHops) -> dict[str, Any]:
    cluster: dict[str, Any] = hops.config["cluster_manager"]["clusters"][1]
    return cluster


def test_a_host_that_is_down_is_skipped_and_comes_back(start: Start, two_hops: TwoHops, tmp_path: Path) -> None:
    with dead_sockets(1) as (down,):
        address = f"127.0.0.1:{port_of(down)}"
        cluster = server_cluster(two_hops)
        cluster["hosts"].append({"address": address})
        cluster["health_check"] = {
            "service_name": "backend",
            "interval": "50ms",
            "timeout": LONG,
            "initial_delay_seconds": "10ms",
            "event_log_path": str(tmp_path / "health.log"),
        }
        proxy = start(two_hops.config)
        proxy.wait_for(READY)
        assert eventually(lambda: hosts(two_hops)[address] == "failed_active_check")
        proxy.wait_for(f"host {address} fails its health check")
        assert [two_hops.get()[0] for _ in range(20)] == [200] * 20
        assert '"healty": "1"' in two_hops.admin("/api/v1/stats?key=healthcheck.service.backend")
        down.listen()
        assert eventually(lambda: hosts(two_hops)[address] == "healthy")
        event = f"host:{address},health_status:0,current_result:0,status_changed:1"
        assert eventually(lambda: event in (tmp_path / "health.log").read_text())


def test_a_new_worker_knows_who_is_down(start: Start, two_hops: TwoHops) -> None:
    with dead_sockets(1) as (down,):
        cluster = server_cluster(two_hops)
        cluster["hosts"].append({"address": f"127.0.0.1:{port_of(down)}"})
        cluster["health_check"] = {"interval": "1h", "timeout": LONG, "initial_delay_seconds": "10ms"}
        proxy = start(two_hops.config, "--workers", "1")
        proxy.wait_for(READY)
        proxy.wait_for("fails its health check")
        (old,) = proxy.worker_pids()
        os.kill(old, signal.SIGKILL)
        proxy.wait_for(rf"worker 1 \(pid (?!{old}\))\d+\) is ready")
        assert [two_hops.get()[0] for _ in range(10)] == [200] * 10


def test_http_checks_judge_by_status(start: Start, two_hops: TwoHops, upstream: Upstream) -> None:
    cluster = server_cluster(two_hops)
    probe = {"path": "/health", "codes": [{"Start": 500, "End": 599}]}
    cluster["health_check"] = {
        "protocol": "http1",
        "interval": "50ms",
        "timeout": LONG,
        "initial_delay_seconds": "10ms",
        "check_config": {"http_check_config": probe},
    }
    proxy = start(two_hops.config)
    proxy.wait_for("fails its health check: unexpected response")
    proxy.wait_for(READY)
    assert two_hops.get()[0] in (502, 503)


def test_strict_dns_makes_hosts_of_addresses(start: Start, two_hops: TwoHops, upstream: Upstream) -> None:
    cluster = server_cluster(two_hops)
    cluster |= {"type": "STRICT_DNS", "dns_refresh_rate": "1s", "hosts": [{"address": f"localhost:{upstream.port}"}]}
    proxy = start(two_hops.config)
    proxy.wait_for(READY)
    assert hosts(two_hops) == {f"127.0.0.1:{upstream.port}": "unchecked"}
    assert two_hops.get()[0] == 200


class ThreadedDns:
    """A DNS server on an event loop of its own."""

    def __init__(self, **records: list[str]) -> None:
        self.server = DnsServer(**records)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.__aenter__(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.__aexit__(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def test_dns_servers_of_a_cluster_and_their_times_to_live(start: Start, two_hops: TwoHops, upstream: Upstream) -> None:
    dns = ThreadedDns(**{"backend.in.test": ["0 A 127.0.0.1"]})
    try:
        cluster = server_cluster(two_hops)
        cluster |= {
            "type": "STRICT_DNS",
            "hosts": [{"address": f"backend:{upstream.port}"}],
            "dns_refresh_rate": "1h",
            "respect_dns_ttl": True,
            "dns_resolvers": {"servers": ["127.0.0.1"], "port": str(dns.server.port), "search": ["in.test"], "timeout": 10},
        }
        proxy = start(two_hops.config)
        proxy.wait_for(READY)
        assert two_hops.get()[0] == 200
        dns.server.records["backend.in.test"] = ["0 A 127.0.0.1", "0 A 127.0.0.9"]
        both = {f"127.0.0.{last}:{upstream.port}": "unchecked" for last in (1, 9)}
        assert eventually(lambda: hosts(two_hops) == both), "a second after the time to live"
        del dns.server.records["backend.in.test"]
        proxy.wait_for("backend cannot be resolved .*; keeping the last addresses")
        assert hosts(two_hops) == both
        assert [two_hops.get()[0] for _ in range(4)] == [200] * 4, "the address that refuses is tried once, then the other"
    finally:
        dns.close()
