"""What the admin API may ask, answered by the supervisor."""

import os
from typing import Any, Final

from pymosn.config.dump import dump
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import ControlPlane, WorkerInfo
from pymosn.core.counters import GroupData
from pymosn.observe.logs import LogSet
from pymosn.server.fleet import Fleet
from pymosn.server.messages import SetLogLevel, SwitchLog
from pymosn.version import VERSION

# The stages of a process by MOSN's numbers (key reference section 15).
INITING: Final = 2
STARTING: Final = 4
RUNNING: Final = 6
GRACEFUL_STOPPING: Final = 8
STOPPING: Final = 9

#: MOSN's feature gates; what they switch is not built.
FEATURE_GATES: Final = ("auto_config", "XdsMtlsEnable", "PayLoadLimitEnable", "MultiTenantMode")


class SupervisorPlane(ControlPlane):
    """`stage` is the present stage; the supervisor sets it."""

    def __init__(self, config: MosnConfig, fleet: Fleet, logs: LogSet, log_paths: list[str]) -> None:
        """`log_paths`: the logs of all processes, as the configuration names them; `logs`: those of this one."""
        self.stage = INITING
        self._config = config
        self._fleet = fleet
        self._logs = logs
        self._log_paths = log_paths

    def state(self) -> int:
        return self.stage

    def pid(self) -> int:
        return os.getpid()

    def version(self) -> str:
        return VERSION

    def config(self) -> dict[str, Any]:
        return dump(self._config)

    def listeners(self) -> dict[str, Any]:
        return {listener.name or listener.address: dump(listener) for listener in self._config.servers[0].listeners}

    def clusters(self) -> dict[str, Any]:
        return {cluster.name: dump(cluster) for cluster in self._config.cluster_manager.clusters}

    def routers(self) -> dict[str, Any]:
        return {name: dump(table) for name, table in self._config.servers[0].router_tables().items()}

    async def stats(self) -> list[GroupData]:
        return await self._fleet.stats()

    def log_levels(self) -> dict[str, str]:
        return self._logs.levels()

    async def set_log_level(self, path: str, level: str) -> None:
        self._require(path)
        self._logs.set_level(path, level)
        self._fleet.order(SetLogLevel(path, level))

    async def switch_log(self, path: str, enabled: bool) -> None:
        self._require(path)
        if path in self._logs.levels():
            self._logs.switch(path, enabled)
        self._fleet.order(SwitchLog(path, enabled))

    def features(self) -> dict[str, bool]:
        return dict.fromkeys(FEATURE_GATES, False)

    def workers(self) -> list[WorkerInfo]:
        return self._fleet.workers()

    def _require(self, path: str) -> None:
        if path not in self._log_paths:
            raise KeyError(f"no log at {path!r}; there are {', '.join(map(repr, self._log_paths))}")
