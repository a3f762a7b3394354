import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import load_text
from pymosn.control.discovery import Discovery
from pymosn.control.health import HealthChecks
from pymosn.core.clock import Clock
from pymosn.core.log import Log
from pymosn.server.changes import Changes
from pymosn.server.filter_files import FilterFiles
from pymosn.server.fleet import Fleet
from pymosn.server.listeners import ListenerSockets
from pymosn.server.logs import log_paths, open_logs
from pymosn.server.messages import Command, Ready, SetLogLevel, SwitchLog
from pymosn.server.run_options import ConfigSource, RunOptions
from pymosn.server.supervisor_plane import SupervisorPlane
from pymosn.server.tls_files import TlsFiles
from pymosn.server.worker_process import WorkerHandle, WorkerReceiver


class FakeWorker(WorkerHandle):
    def __init__(self, worker_id: int) -> None:
        super().__init__(worker_id, 7)
        self.commands: list[Command] = []

    def take_stack(self) -> list[str]:
        return ["filters.py:7 in on_request"]

    def send(self, command: Command, descriptors: Sequence[int] = ()) -> None:
        self.commands.append(command)


class NoScheduler:
    def call_later(self, delay: float, callback: object, *args: object) -> None:
        raise AssertionError("nothing is to be restarted")


class Stage:
    def __init__(self, folder: Path) -> None:
        loaded = load_text(
            DEFAULT_CONFIG.replace('"default_log_path": "stdout"', f'"default_log_path": "{folder}/mosn.log"'), DEFAULT_NAME
        )
        assert loaded.config is not None
        self.log_path = f"{folder}/mosn.log"
        self.worker = FakeWorker(1)
        self.fleet = Fleet(1, self._spawn, lambda worker_id: (), NoScheduler().call_later, Clock(), Log())
        logs = open_logs(loaded.config, str(folder))
        options = RunOptions(source=ConfigSource("c"), config=loaded.config, config_dir="/conf", base_dir="/")
        discovery = Discovery(lambda cluster: None, Log())
        files = FilterFiles("/conf"), TlsFiles(options.config, "/conf")
        changes = Changes(options, self.fleet, ListenerSockets(), *files, discovery, lambda config: None, Log())
        health = HealthChecks(lambda cluster, hosts: None, Clock(), Log())
        self.plane = SupervisorPlane(changes, self.fleet, health, logs, log_paths(loaded.config, str(folder)))
        self.fleet.start()

    def _spawn(self, worker_id: int, receiver: WorkerReceiver) -> WorkerHandle:
        return self.worker


def test_a_level_is_changed_in_every_process(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    asyncio.run(stage.plane.set_log_level(stage.log_path, "DEBUG"))
    assert stage.plane.log_levels() == {"": "INFO", stage.log_path: "DEBUG"}
    assert stage.worker.commands == [SetLogLevel(stage.log_path, "DEBUG")]


def test_a_bad_level_changes_nothing_anywhere(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(ValueError, match="unknown log level"):
        asyncio.run(stage.plane.set_log_level(stage.log_path, "LOUD"))
    assert stage.plane.log_levels() == {"": "INFO", stage.log_path: "INFO"}
    assert stage.worker.commands == []


def test_the_start_logger_belongs_to_this_process(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    asyncio.run(stage.plane.set_log_level("", "ERROR"))
    asyncio.run(stage.plane.switch_log("", False))
    assert stage.plane.log_levels() == {"": "ERROR", stage.log_path: "INFO"}
    assert stage.worker.commands == []
    with pytest.raises(ValueError, match="unknown log level"):
        asyncio.run(stage.plane.set_log_level("", "error"))


def test_access_logs_are_switched_where_they_are_written(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    asyncio.run(stage.plane.switch_log("stdout", False))
    assert stage.worker.commands == [SwitchLog("stdout", False)]
    with pytest.raises(KeyError, match="no log at 'stderr'"):
        asyncio.run(stage.plane.switch_log("stderr", False))


def test_active_objects_are_found_by_name(tmp_path: Path) -> None:
    plane = Stage(tmp_path).plane
    assert list(plane.listeners()) == ["clientListener", "serverListener"]
    assert list(plane.clusters()) == ["clientCluster", "serverCluster"]
    assert list(plane.routers()) == ["client_router", "server_router"]
    assert plane.config()["servers"][0]["mosn_server_name"] == "example"


def test_workers_are_listed_with_their_state(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert [(worker["pid"], worker["state"]) for worker in stage.plane.workers()] == [(7, "starting")]
    stage.fleet.on_report(stage.worker, Ready(1))
    assert [worker["state"] for worker in stage.plane.workers()] == ["running"]
