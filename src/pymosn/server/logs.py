"""The paths of the proxy's logs, and opening them in one process, supervisor or worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

from pymosn.config.schema import MosnConfig
from pymosn.config.schema.observability import SofaTracer
from pymosn.config.typed import typed
from pymosn.control.tracing.files import digest_files
from pymosn.core.log import WARN
from pymosn.observe.logs import LogSet
from pymosn.observe.process_log import LEVELS
from pymosn.server import messages
from pymosn.server.messages import LogCommand

if TYPE_CHECKING:
    from pymosn.assembly.worker import WorkerRuntime


def open_logs(config: MosnConfig, base_dir: str, ceiling: str | None = None) -> LogSet:
    """Opens the process log; OSError if it cannot. `ceiling`: the lowest level allowed, named as for `--log-level`."""
    level = config.servers[0].default_log_level
    # MOSN treats an unknown level as INFO; a warning was reported when the configuration was loaded.
    return LogSet(process_log_path(config, base_dir), level if level in LEVELS else "INFO", ceiling)


def process_log_path(config: MosnConfig, base_dir: str) -> str:
    """The path of the process log, by default `<base_dir>/logs/mosn.log`."""
    return config.servers[0].default_log_path or os.path.join(base_dir, "logs", "mosn.log")


def log_paths(config: MosnConfig, base_dir: str) -> list[str]:
    """The paths of the process log and of all access logs, without duplicates."""
    paths = [process_log_path(config, base_dir)]
    for listener in config.servers[0].listeners:
        default = listener.default_access_log(base_dir)
        paths += [entry.log_path or default for _, entries in listener.log_lists() for entry in entries]
    return list(dict.fromkeys(paths))


def event_logs(config: MosnConfig) -> list[str]:
    """The paths of the logs of health checks, which the supervisor opens when it writes the first line."""
    checks = [cluster.health_check for cluster in config.cluster_manager.clusters]
    return [check.event_log_path for check in checks if check is not None and check.event_log_path]


def trace_logs(config: MosnConfig) -> list[str]:
    """The paths of SOFATracer's digests; none with another driver."""
    tracing = config.tracing
    if tracing is None or not tracing.enable or tracing.driver != "SOFATracer":
        return []
    return digest_files(typed(tracing.config, SofaTracer))


class LogOrder(msgspec.Struct, frozen=True):
    """What the admin API has ordered for the log at a path, for the next generation."""

    path: str
    level: str = ""
    enabled: bool | None = None


def export_orders(commands: Iterable[LogCommand]) -> bytes | None:
    """The orders of the admin API, for the next generation; None if there are none."""
    orders = [
        LogOrder(command.path, level=command.level)
        if isinstance(command, messages.SetLogLevel)
        else LogOrder(command.path, enabled=command.enabled)
        for command in commands
    ]
    return msgspec.msgpack.encode(orders) if orders else None


def adopt_orders(content: bytes, paths: Collection[str], logs: LogSet, send: Callable[[LogCommand], None]) -> None:
    """Follows the orders of the generation before. `paths`: of all logs of this one; others are forgotten.

    `logs`: of this process. `send`: to all workers.
    """
    for order in msgspec.msgpack.decode(content, type=list[LogOrder]):
        is_here = order.path in logs.levels()
        if order.path not in paths:
            continue
        if order.level:
            if is_here:
                logs.set_level(order.path, order.level)
            send(messages.SetLogLevel(order.path, order.level))
        if order.enabled is not None:
            if is_here:
                logs.switch(order.path, order.enabled)
            send(messages.SwitchLog(order.path, order.enabled))


def execute_log_command(runtime: WorkerRuntime, command: LogCommand | messages.ReopenLogs) -> None:
    """Changes the logs of a worker. One that it does not have is reported in the process log."""
    try:
        match command:
            case messages.SetLogLevel():
                runtime.logs.set_level(command.path, command.level)
            case messages.SwitchLog():
                runtime.logs.switch(command.path, command.enabled)
            case messages.ReopenLogs():
                runtime.reopen_logs()
    except (KeyError, ValueError) as error:
        runtime.log.write(WARN, f"ignored log command: {error}")
