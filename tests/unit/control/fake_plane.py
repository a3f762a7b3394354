"""A control plane without a process, for tests of the admin API."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import (
    AllocationView,
    Candidate,
    ChangeResult,
    ClusterView,
    ControlPlane,
    Edit,
    ExchangesView,
    FilterView,
    HostView,
    ProfileError,
    TooManyTaps,
    UpgradeOptions,
    WorkerInfo,
)
from pymosn.core.counters import DownstreamStats, GroupData, Metrics
from pymosn.observe.process_log import level_of
from pymosn.observe.profile import Call, Profile, Stack
from pymosn.observe.tap_options import TapOptions

PATH = "/logs/mosn.log"


class FakePlane(ControlPlane):
    def __init__(self) -> None:
        self.levels = {PATH: "INFO", "": "INFO"}
        self.switched: list[tuple[str, bool]] = []
        self.broken = False
        self.profiled: list[tuple[int, float]] = []
        self.stage = 6
        self.file: str | None = "/conf/mosn.json"
        self.upgrades: list[tuple[str, UpgradeOptions]] = []
        self.stops: list[bool] = []
        loaded = load_text(DEFAULT_CONFIG, DEFAULT_NAME)
        assert loaded.config is not None
        self.in_force = loaded.config
        self.last = ChangeResult(attempt=0, source="start", applied=True, version=1, message="", faults=[])

    def state(self) -> int:
        return self.stage

    def pid(self) -> int:
        return 42

    def version(self) -> str:
        return "1.2.3"

    def config(self) -> dict[str, Any]:
        return {"servers": [{"mosn_server_name": "s"}]}

    def extends(self) -> list[dict[str, Any]]:
        return [{"type": "x", "config": {"k": 1}}]

    def listeners(self) -> dict[str, Any]:
        return {"a": {"name": "a", "address": "127.0.0.1:1"}}

    def clusters(self) -> dict[str, Any]:
        return {"c": {"name": "c"}}

    def routers(self) -> dict[str, Any]:
        return {"r": {"router_config_name": "r"}}

    async def apply(self, source: str, edit: Edit) -> ChangeResult:
        edited = edit(self.in_force)
        if edited.config is not None:
            self.in_force = edited.config
        applied = edited.config is not None
        message = "in force" if applied else "refused"
        self.last = ChangeResult(attempt=1, source=source, applied=applied, version=2, message=message, faults=edited.faults)
        return self.last

    def config_path(self) -> str | None:
        return self.file

    async def reload(self, source: str) -> ChangeResult:
        return await self.apply(source, lambda before: Candidate(before, []))

    def stop(self, now: bool) -> None:
        self.stops.append(now)

    async def upgrade(self, source: str, options: UpgradeOptions) -> AsyncIterator[dict[str, Any]]:
        self.upgrades.append((source, options))
        yield {"progress": "process 4711 starts"}
        yield {"done": True, "lines": ["process 4711 has taken over"]}

    async def reload_filters(self, source: str) -> ChangeResult:
        return await self.apply(source, lambda before: Candidate(before, []))

    async def filters(self) -> list[FilterView]:
        counters = {"calls": 3, "errors": 0}
        stack = ["filters.py:7 in on_request"]
        return [
            {
                "name": "Tenant",
                "type": "python",
                "listeners": ["l"],
                "calls": 3,
                "errors": 0,
                "mean_seconds": 0.0000015,
                "p99_seconds": 0.000004,
                "sampled": 2,
                "last_error": {
                    "time": 1700000000.5,
                    "worker": 1,
                    "phase": "on_request",
                    "message": "ValueError: no",
                    "stack": ["filters.py:9 in on_request"],
                },
                "last_block": {"seconds": 2.5, "stack": stack},
                "counters": counters,
                "entries": [
                    {"listener": "l", "path": "stream_filters[0]", "source": "filters.py", "on_error": ""},
                ],
            }
        ]

    async def cpu_profile(self, target: int, seconds: float) -> Profile:
        self.profiled.append((target, seconds))
        if target > 2:
            raise ProfileError(404, f"there is no worker {target}")
        if target == 2:
            try:
                await asyncio.Event().wait()
            finally:
                self.profiled.append((-1, 0.0))
        samples: list[tuple[Stack, tuple[int, ...]]] = [
            ((Call("filters.burn", "/f/filters.py", 3), Call("filters.on_request", "/f/filters.py", 9)), (30, 300_000_000)),
            (
                (Call("[event loop]", "", 0), Call("pymosn.server.worker.run", "/p/pymosn/server/worker.py", 5)),
                (10, 100_000_000),
            ),
        ]
        values = [("samples", "count"), ("cpu", "nanoseconds")]
        return Profile(values, samples, ("cpu", "nanoseconds", 10_000_000), 1_700_000_000.0, seconds)

    async def heap_profile(self, target: int, seconds: float) -> Profile:
        self.profiled.append((target, seconds))
        stack = (Call("filters.keep", "/f/filters.py", 3),)
        values = [("inuse_objects", "count"), ("inuse_space", "bytes")]
        return Profile(values, [(stack, (2, 3000))], ("space", "bytes", 1), 1_700_000_000.0, seconds)

    async def stacks(self, target: int) -> list[tuple[str, Stack]]:
        stack = (Call("filters.wait", "/f/filters.py", 3), Call("[native]", "", 0))
        return [("thread MainThread", stack), ("task one", stack)]

    async def exchanges(self, limit: int) -> ExchangesView:
        story = {
            "worker": 1,
            "time": 0.25,
            "listener": "l",
            "protocol": "Http1",
            "client": "192.0.2.7",
            "method": "GET",
            "host": "shop.example",
            "path": "/orders",
            "route": "table/0",
            "cluster": "c",
            "status": 502,
            "reason": "connect_refused",
            "detail": "",
            "duration": 0.0123,
            "request_bytes": 3,
            "response_bytes": 9,
            "trace_id": "",
            "attempts": [{"address": "10.0.0.1:80", "offset": 0.001, "duration": 2.5, "status": 0, "reason": "lost"}],
            "timings": {"received": 0.0, "response": None},
            "filters": ["Tenant"],
            "replied_by": "",
        }
        return {"failed": [{**story, "path": f"/{number}"} for number in range(3)][:limit], "slow": [story], "missed": 2}

    def tap(self, options: TapOptions) -> AsyncIterator[bytes]:
        if options.count == 7:
            raise TooManyTaps("there are too many")

        async def lines() -> AsyncIterator[bytes]:
            yield b'{"tap":{}}\n'
            asked = {"statuses": options.statuses, "count": options.count}
            yield b'{"exchange":' + msgspec.json.encode(asked) + b"}\n"

        return lines()

    async def trace_allocations(self, seconds: float) -> list[AllocationView]:
        return [{"line": f"filters.py:{int(seconds)}", "bytes": 64, "blocks": 2}]

    def last_change(self) -> ChangeResult:
        return self.last

    async def live_clusters(self) -> list[ClusterView]:
        host: HostView = {
            "address": "10.0.0.1:80",
            "hostname": "one",
            "weight": 1,
            "health": "failed_active_check",
            "failed_active_check": 2,
            "ejected": 0,
            "why": "",
            "requests_active": 2,
            "requests_total": 9,
            "connections_active": 3,
        }
        ejected: HostView = {**host, "address": "10.0.0.2:80", "hostname": "", "health": "ejected", "ejected": 1}
        server: HostView = {**host, "address": "127.0.0.1:2046", "hostname": ""}
        return [
            {"name": "c", "workers": 2, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [host, ejected]},
            {"name": "clientCluster", "workers": 2, "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": [server]},
        ]

    def current(self) -> MosnConfig:
        return self.in_force

    async def stats(self) -> list[GroupData]:
        if self.broken:
            raise RuntimeError("workers do not answer")
        metrics = Metrics()
        DownstreamStats(metrics.group("downstream", ("listener", "a"))).request_total.value = 3
        return metrics.snapshot() + metrics.snapshot()

    def log_levels(self) -> dict[str, str]:
        return self.levels

    async def set_log_level(self, path: str, level: str) -> None:
        level_of(level)
        if path not in self.levels:
            raise KeyError(f"no log at {path!r}")
        self.levels[path] = level

    async def switch_log(self, path: str, enabled: bool) -> None:
        if path not in self.levels:
            raise KeyError(f"no log at {path!r}")
        self.switched.append((path, enabled))

    def started(self) -> float:
        return 1796032800.0

    def features(self) -> dict[str, bool]:
        return {"auto_config": False, "XdsMtlsEnable": True}

    def workers(self) -> list[WorkerInfo]:
        return [{"pid": 43, "state": "running", "started": 1.5}]
