"""Giving up root: started as root, the process and its workers run as the configured user, and can never be root again."""

import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import Generations
from process_fixtures import PYTHON_PATH, public_python
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, children, eventually
from tests.kit.certificates import server
from tls_peers import answer
from xds_peers import serial_of, served_serial

import pymosn
from pymosn.server.worker_process import worker_environment

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

NOBODY = pwd.getpwnam("nobody")
SOURCE = Path(pymosn.__file__).resolve().parent.parent


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any user can enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="pymosn-test-"))
    folder.chmod(0o755)
    (folder / "conf").mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def python() -> str:
    """A Python of this version that nobody can run, with pymosn and what it needs."""
    return public_python()


class Program(Pymosn):
    """pymosn, run by another Python."""

    def __init__(self, python: str, folder: Path, config: dict[str, Any]) -> None:
        path = folder / "conf" / "mosn.json"
        path.write_text(json.dumps(config))
        executable, sys.executable = sys.executable, python
        try:
            super().__init__(["-c", str(path)], folder, {"PYTHONPATH": PYTHON_PATH})
        finally:
            sys.executable = executable


class Run:
    def __init__(self, python: str, folder: Path) -> None:
        self._python = python
        self._folder = folder
        self._running: list[Program] = []

    def __call__(self, config: dict[str, Any]) -> Program:
        self._running.append(Program(self._python, self._folder, config))
        return self._running[-1]

    def end(self) -> None:
        for program in self._running:
            program.end()


@pytest.fixture
def run(python: str, place: Path) -> Iterator[Run]:
    made = Run(python, place)
    yield made
    made.end()


@pytest.fixture
def config(two_hops: TwoHops, place: Path) -> TwoHops:
    """Two hops as nobody, with one worker, default logs, and the second hop over a unix socket."""
    two_hops.config["user"] = "nobody"
    two_hops.server["processor"] = 1
    two_hops.server["default_log_path"] = "stdout"
    two_hops.server["listeners"][0]["access_logs"] = [{}]
    path = str(place / "hop.sock")
    two_hops.server["listeners"][1].update({"network": "unix", "address": path, "mode": "0600"})
    two_hops.config["cluster_manager"]["clusters"][0]["hosts"] = [{"address": f"unix:{path}"}]
    return two_hops


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_all_processes_are_the_user_without_a_way_back(run: Run, config: TwoHops, place: Path) -> None:
    config.config["umask"] = "0027"
    program = run(config.config)
    program.wait_for(READY)
    supervisor = program.process.pid
    assert eventually(lambda: len(children(supervisor, "")) == 2)  # the worker and the guardian
    for pid in [supervisor, *children(supervisor, "")]:
        found = status(pid)
        assert found["Uid"].split() == [str(NOBODY.pw_uid)] * 4
        assert found["Gid"].split() == [str(NOBODY.pw_gid)] * 4
        assert set(found["Groups"].split()) <= {str(NOBODY.pw_gid)}
        assert [int(found[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
        assert (found["NoNewPrivs"], found["Umask"]) == ("1", "0027")
    assert config.get()[0] == 200
    for path in (place / "logs", place / "logs" / "clientListener_access.log", place / "hop.sock"):
        assert owner(path) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert stat.S_IMODE((place / "hop.sock").stat().st_mode) == 0o600
    assert eventually(lambda: (place / "logs" / "mosn.pid").exists())
    program.send(signal.SIGTERM)
    assert program.exit_code() == 0
    assert not (place / "logs" / "mosn.pid").exists()


def test_reload_logs_and_replacement_work_afterwards(run: Run, config: TwoHops, place: Path) -> None:
    program = run(config.config)
    program.wait_for(READY)
    config.server["listeners"][1]["mode"] = "0660"
    (place / "conf" / "mosn.json").write_text(json.dumps(config.config))
    program.send(signal.SIGHUP)
    program.wait_for("version 2 is active")
    assert stat.S_IMODE((place / "hop.sock").stat().st_mode) == 0o660
    assert config.get()[0] == 200
    log = place / "logs" / "clientListener_access.log"
    log.rename(log.with_suffix(".1"))
    program.send(signal.SIGUSR1)
    assert eventually(lambda: config.get()[0] == 200 and log.exists() and log.stat().st_size > 0)
    victim = program.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    program.wait_for("replaced by")
    assert config.get()[0] == 200
    assert status(program.worker_pids()[0])["Uid"].split() == [str(NOBODY.pw_uid)] * 4


def privileged_port() -> int:
    for port in range(1023, 700, -1):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no free port below 1024")


def test_a_port_below_1024_is_bound_before_and_refused_after(run: Run, config: TwoHops, place: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024:
        pytest.skip("any user may bind ports below 1024 here")
    low = privileged_port()
    config.server["listeners"][0]["address"] = f"127.0.0.1:{low}"
    program = run(config.config)
    program.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", low, timeout=PATIENCE)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    another = {
        **config.server["listeners"][0],
        "name": "late",
        "address": f"127.0.0.1:{privileged_port()}",
        "access_logs": [],
    }
    config.server["listeners"].append(another)
    (place / "conf" / "mosn.json").write_text(json.dumps(config.config))
    program.send(signal.SIGHUP)
    program.wait_for("listener late: cannot listen on .*: permission denied: a port below 1024 needs root")
    program.wait_for("rejected; nothing changed")


def test_upgrades_need_no_root(run: Run, config: TwoHops, place: Path) -> None:
    """The key that only root can read, the low port and all files pass from one process of the user to the next."""
    issued = server()
    (place / "chain.pem").write_bytes(issued.certificate)
    (place / "key.pem").write_bytes(issued.key)
    (place / "key.pem").chmod(0o600)
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)  # only there it can remove the files of sockets
    low = privileged_port()
    context = {"status": True, "cert_chain": str(place / "chain.pem"), "private_key": str(place / "key.pem")}
    listener = config.server["listeners"][0]
    chain = {**listener["filter_chains"][0], "tls_context": context}
    config.server["listeners"].append({**listener, "name": "tls", "address": f"127.0.0.1:{low}", "filter_chains": [chain]})
    config.server["graceful_timeout"] = "1s"
    generations = Generations(run(config.config), place / "conf" / "mosn.json", config.admin_port)
    program, log = generations.proxy, place / "logs" / "clientListener_access.log"
    admin, hop, pid_file = Path(program.admin_socket), place / "hop.sock", place / "logs" / "mosn.pid"
    inodes = {path: path.stat().st_ino for path in (hop, log)}
    for _ in range(2):
        written = log.stat().st_size
        done = generations.upgrade()
        assert (done.returncode, done.stderr) == (0, "")
        found = status(generations.pids[-1])
        assert found["Uid"].split() == [str(NOBODY.pw_uid)] * 4
        assert [int(found[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
        assert eventually(lambda: len(generations.view()["generations"]) == 1)
        assert served_serial(low) == serial_of(issued)
        assert answer(low)[0] == 200
        assert config.get()[0] == 200
        assert eventually(lambda size=written: log.stat().st_size > size)
        assert {path: path.stat().st_ino for path in inodes} == inodes
        assert pid_file.read_text() == f"{program.process.pid}\n"
        assert owner(log)[0] == owner(hop)[0] == owner(pid_file)[0] == owner(admin)[0] == NOBODY.pw_uid
        assert [stat.S_IMODE(path.stat().st_mode) for path in (hop, admin)] == [0o600, 0o600]
    assert len(set(generations.pids)) == 3
    program.send(signal.SIGTERM)
    assert program.exit_code() == 0
    assert [path for path in (admin, hop, pid_file) if path.exists()] == []


def test_files_of_a_run_as_root_are_handed_over_but_no_link(run: Run, config: TwoHops, place: Path) -> None:
    logs = place / "logs"
    logs.mkdir()
    (logs / "mosn.log").write_text("old\n")
    precious = place / "precious"
    precious.write_text("text")
    os.link(precious, logs / "clientListener_access.log")
    config.server["default_log_path"] = ""
    config.server["listeners"][0]["access_logs"] = []
    config.config["pid"] = str(place / "mosn.pid")  # in a folder of root
    program = run(config.config)
    log = logs / "mosn.log"
    assert eventually(lambda: "admin API on" in log.read_text())
    assert owner(log)[0] == NOBODY.pw_uid
    assert owner(precious)[0] == 0
    assert (place / "mosn.pid").read_text() == f"{program.process.pid}\n"
    program.send(signal.SIGTERM)
    assert program.exit_code() == 0
    assert (place / "mosn.pid").read_text() == ""


def test_a_log_that_is_a_link_of_the_user_is_not_followed_as_root(run: Run, config: TwoHops, place: Path) -> None:
    logs = place / "logs"
    logs.mkdir()
    precious = place / "precious"
    precious.write_text("text")
    (logs / "mosn.log").symlink_to(precious)
    os.chown(logs, NOBODY.pw_uid, NOBODY.pw_gid)
    config.server["default_log_path"] = ""
    program = run(config.config)
    assert program.exit_code() == 1
    assert "the process log cannot be opened" in program.output
    assert precious.read_text() == "text"
    assert owner(precious)[0] == 0


def test_a_program_that_the_user_cannot_read_is_a_clear_error(run: Run, config: TwoHops, place: Path) -> None:
    private = place / "private"
    shutil.copytree(SOURCE / "pymosn", private / "pymosn", ignore=shutil.ignore_patterns("__pycache__"))
    if SOURCE.name == "compiled":
        for path in SOURCE.glob("*.so"):
            shutil.copy(path, private)
    private.chmod(0o700)
    path = place / "conf" / "mosn.json"
    path.write_text(json.dumps(config.config))
    result = subprocess.run(
        [sys.executable, "-m", "pymosn", "start", "-c", str(path)],
        env={**os.environ, "PYTHONPATH": str(private)},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 1
    assert "user 'nobody' cannot run the workers: " in result.stderr
    assert "is not" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_user_without_root_is_an_error_and_the_same_user_a_warning(
    python: str, config: TwoHops, place: Path
) -> None:
    path = place / "conf" / "mosn.json"
    place.chmod(0o777)
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)

    def begin(user: str) -> "subprocess.Popen[str]":
        path.write_text(json.dumps({**config.config, "user": user}))
        return subprocess.Popen(
            [python, "-m", "pymosn", "start", "-c", str(path)],
            env={**worker_environment(os.environ), "PYTHONPATH": PYTHON_PATH},
            cwd=place,
            user="nobody",
            group=NOBODY.pw_gid,
            extra_groups=[],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    out, _ = (other := begin("daemon")).communicate(timeout=PATIENCE)
    assert other.returncode == 1
    assert "cannot run as user 'daemon': only root can, and this process runs as 'nobody'" in out
    same = begin("nobody")
    try:
        assert same.stdout is not None
        lines = iter(same.stdout.readline, "")
        assert any("the key `user` has no effect: the process already runs as 'nobody'" in line for line in lines)
        assert any("ready: " in line for line in lines)
        same.send_signal(signal.SIGINT)
        same.communicate(timeout=PATIENCE)
        assert same.returncode == 0
    finally:
        same.kill()


def test_running_as_root_is_said_once(run: Run, config: TwoHops) -> None:
    del config.config["user"]
    program = run(config.config)
    program.wait_for(READY)
    assert program.output.count("running as root") == 1


FILTER = "from pymosn.api import StreamFilter\nimport helper\nclass Empty(StreamFilter):\n    pass\n"


@pytest.mark.parametrize("what", ["file", "folder", "parent", "helper", "owner_in_tmp"])
@pytest.mark.parametrize("command", ["check", "start"])
def test_root_imports_no_filter_that_anyone_could_change(two_hops: TwoHops, place: Path, what: str, command: str) -> None:
    folder = place / "outer" / "filters"
    folder.mkdir(parents=True)
    (folder / "filter.py").write_text(FILTER)
    (folder / "helper.py").write_text("")
    if what == "owner_in_tmp":
        folder.chmod(0o1777)
        os.chown(folder / "filter.py", NOBODY.pw_uid, NOBODY.pw_gid)
    else:
        path = {"file": folder / "filter.py", "folder": folder, "parent": folder.parent, "helper": folder / "helper.py"}[
            what
        ]
        path.chmod(0o777)
    config = {"path": str(folder / "filter.py"), "class": "Empty"}
    two_hops.server["listeners"][0]["stream_filters"] = [{"type": "python", "config": config}]
    path = place / "conf" / "mosn.json"
    path.write_text(json.dumps(two_hops.config))
    result = subprocess.run(
        [sys.executable, "-m", "pymosn", command, "-c", str(path)],
        env=worker_environment(os.environ),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 1
    assert "any user of this machine could change" in result.stderr


def test_a_user_that_becomes_nobody_still_gets_no_filter_that_anyone_could_change(
    run: Run, config: TwoHops, place: Path
) -> None:
    (place / "filter.py").write_text(FILTER.replace("import helper\n", ""))
    filter_config = {"path": str(place / "filter.py"), "class": "Empty"}
    config.server["watch_filters"] = False
    config.server["listeners"][0]["stream_filters"] = [{"type": "python", "config": filter_config}]
    program = run(config.config)
    program.wait_for(READY)
    (place / "filter.py").chmod(0o666)
    program.send(signal.SIGHUP)
    program.wait_for("change from SIGHUP: .*any user of this machine could change the filter: .*filter.py is world-writable")
    program.wait_for("rejected; nothing changed")
