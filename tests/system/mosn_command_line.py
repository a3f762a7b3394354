"""Runs rows of the differential table `command_line`: with pymosn, or with a real MOSN.

A row has `args`, of which `{config}` is a configuration that serves, `broken.json` and `other.json` files that are none, and
`absent.json` one that does not exist; `env`; `default`, the content of `configs/mosn_config.json`, `working` for that of the
first; and `taken`, whether the address is in use. Without `then` the program must end by itself. `then` is what happens
while it serves, one step after the other:

- a signal's name: the program gets it. `SIGUSR2 at once`: as soon as code of the program runs, long before it serves.
- `idle`: a client has a connection that was answered; `half`: and a further request is incomplete, or, `busy`, not answered.
- `stop`: the command `stop -c` is run. `gone`: the program is waited for.
- `serves`: it must answer a request.

An outcome has `exit`; `loads`, the configuration files that it opens; `prints`: help, version or usage error. Of the steps:
`clients`, how the connections ended; `stop`, the exit code of the command; `pid`: was the file right; `left`: whether
it is still there.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.golden.mosn_table import Row
from tests.system.pymosn_process import eventually, free_ports

from pymosn.server.inotify import Inotify
from pymosn.server.worker_process import worker_environment

#: Programs that run at the same time.
ABREAST: Final = 4
PATIENCE: Final = 40.0
#: See inotify(7).
_OPEN: Final = 0x20
#: Runs one command line after the other, each in a fork: importing pymosn takes longer than most of them.
_FORKING: Final = """
import json, os, sys, tempfile
import pymosn.cli, rich.console, rich.text, rich.highlighter
for line in sys.stdin:
    args, env, folder = json.loads(line)
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if not pid:
            os.chdir(folder)
            os.environ.update(env)
            sys.argv[1:] = args
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            code = 255
            try:
                pymosn.cli.run_command()
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        print(json.dumps([code, output.read().decode()]), flush=True)
"""


class Program(NamedTuple):
    """The program under test: the beginning of its command, and its environment. `forks`: whether it is pymosn."""

    command: list[str]
    environment: dict[str, str]
    forks: bool = False


def pymosn() -> Program:
    return Program([sys.executable, "-m", "pymosn"], worker_environment(os.environ), True)


def mosn(path: str) -> Program:
    return Program([path], dict(os.environ))


def outcomes(program: Program, rows: Iterable[Row], folder: Path) -> dict[str, dict[str, Any]]:
    """What the program does, by the names of the rows. `folder`: an empty one."""
    short, long = [], []
    for number, row in enumerate(rows):
        (long if "then" in row.given or "taken" in row.given else short).append((row, folder / str(number)))
    with ThreadPoolExecutor(ABREAST) as pool:
        running = [pool.submit(_outcome, program, *each) for each in long]
        quick = [pool.submit(_outcomes, program, short[number::2]) for number in (0, 1)]
        found = {row.case: each.result() for (row, _), each in zip(long, running, strict=True)}
        for each in quick:
            found |= each.result()
        return found


def _outcome(program: Program, row: Row, folder: Path) -> dict[str, Any]:
    run = _Run(program, row, folder)
    try:
        return run.outcome()
    finally:
        run.end()


def _outcomes(program: Program, rows: list[tuple[Row, Path]]) -> dict[str, dict[str, Any]]:
    """Those of rows in which the program ends by itself, one after the other."""
    found = {}
    command = [program.command[0], "-c", _FORKING] if program.forks else ["cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=program.environment, stdin=pipe, stdout=pipe, text=True) as forking:
        assert forking.stdin is not None
        assert forking.stdout is not None
        for row, folder in rows:
            _, arguments = prepare(row, folder, 1)
            environment = row.given.get("env", {})
            with _Opened(folder) as opened:
                if program.forks:
                    print(json.dumps([arguments, environment, str(folder)]), file=forking.stdin, flush=True)
                    code, output = json.loads(forking.stdout.readline())
                else:
                    done = subprocess.run(
                        [*program.command, *arguments],
                        cwd=folder,
                        env={**program.environment, **environment},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        timeout=PATIENCE,
                        check=False,
                    )
                    code, output = done.returncode, done.stdout
                found[row.case] = {"exit": code, "loads": opened.names(), "prints": _printed(output)}
        forking.stdin.close()
    return found


class _Opened:
    """Which files of a folder, and of its folder `configs`, are opened meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._inotify = Inotify()
        self._watches = {self._inotify.watch(str(folder), _OPEN): ""}
        if (folder / "configs").exists():
            self._watches[self._inotify.watch(str(folder / "configs"), _OPEN)] = "configs/"

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._inotify.close()

    def names(self) -> list[str]:
        found = {self._watches[event.watch] + event.name for event in self._inotify.read()}
        return sorted(name for name in found if name.endswith(".json"))


def prepare(row: Row, folder: Path, port: int) -> tuple[Path, list[str]]:
    """Writes the files of a row; returns the configuration that serves at `port`, and the arguments."""
    config = folder / "conf" / "served.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(_served(port)))
    for name in ("broken.json", "other.json"):
        (folder / name).write_text("{")
    default = row.given.get("default")
    if default is not None:
        (folder / "configs").mkdir()
        (folder / "configs" / "mosn_config.json").write_text(config.read_text() if default == "working" else default)
    return config, [each.replace("{config}", str(config)) for each in row.given["args"]]


class _Run:
    """One row in a folder of its own."""

    def __init__(self, program: Program, row: Row, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.config, arguments = prepare(row, folder, self.port)
        self.program = program
        self.steps: list[str] = row.given.get("then", [])
        self.found: dict[str, Any] = {}
        self.output = ""
        self._taken = socket.create_server(("127.0.0.1", self.port)) if row.given.get("taken") else None
        self._clients: list[socket.socket] = []
        self.environment = {**program.environment, **row.given.get("env", {})}
        self.process = self._start(arguments)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _start(self, arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.program.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def outcome(self) -> dict[str, Any]:
        for step in self.steps:
            if step == "SIGUSR2 at once":
                assert eventually(lambda: _expects(self.process.pid, signal.SIGUSR2))
                self.process.send_signal(signal.SIGUSR2)
                continue
            self._step(step)
        self.found["exit"] = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.found["left"] = self._pid_file.exists()
        return self.found

    @property
    def _pid_file(self) -> Path:
        return self.folder / "logs" / "mosn.pid"

    def _step(self, step: str) -> None:
        if step.startswith("SIG"):
            self.process.send_signal(signal.Signals[step])
        elif step == "serves":
            assert eventually(self._answers), self.output
            if "pid" not in self.found:
                right = lambda: self._pid_file.exists() and self._pid_file.read_text() == f"{self.process.pid}\n"  # noqa: E731
                self.found["pid"] = eventually(right) and self._pid_file.stat().st_mode & 0o777 == 0o644
        elif step in ("idle", "half", "busy"):
            assert eventually(self._answers), self.output
            client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            self._clients.append(client)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            if step != "idle":
                client.sendall(b"GET / HTTP/1.1\r\nHo" + (b"st: a\r\nslow: 1\r\n\r\n" if step == "busy" else b""))
                assert eventually(lambda: _has_read(self.port, client.getsockname()[1]))
        elif step == "gone":
            self.process.wait(PATIENCE)
            if self._clients:
                self.found["clients"] = [_end_of(client) for client in self._clients]
        else:
            assert step == "stop", step
            done = self._start(["stop", "-c", str(self.config)])
            self.output += done.communicate(timeout=PATIENCE)[0]
            self.found["stop"] = done.returncode

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return client.recv(65536).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def end(self) -> None:
        for client in self._clients:
            client.close()
        if self._taken is not None:
            self._taken.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _expects(pid: int, number: signal.Signals) -> bool:
    """Whether a process has blocked, ignored or a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"^Sig(?:Blk|Ign|Cgt):\s*(\w+)", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def _end_of(client: socket.socket) -> str:
    try:
        return "FIN" if client.recv(65536) == b"" else "bytes"
    except ConnectionResetError:
        return "RST"


def _has_read(port: int, peer: int) -> bool:
    """Whether the program at a port has read all that came from a peer's port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues = line.split()[1:5]
        if (local[9:], remote[9:]) == (f"{port:04X}", f"{peer:04X}"):
            return int(queues.partition(":")[2], 16) == 0
    return False


def _printed(output: str) -> str:
    if "Incorrect Usage" in output or re.search("^Error: ", output, re.MULTILINE):
        return "usage error"
    if re.search(r"^usage: ?", output, re.MULTILINE | re.IGNORECASE):
        return "help"
    return "version" if re.search(r"^(mosn version|pymosn \d)", output, re.MULTILINE) else ""


def _served(port: int) -> dict[str, Any]:
    """A configuration that answers each request itself."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": "ok"}}
    proxy = {"downstream_protocol": "Http1", "router_config_name": "r"}
    delay = {"delay": {"percentage": 100, "fixed_delay": "60s"}, "headers": [{"name": "slow", "value": "1"}]}
    return {
        "servers": [
            {
                "default_log_path": "stdout",
                "default_log_level": "INFO",
                "processor": 1,
                "routers": [
                    {
                        "router_config_name": "r",
                        "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": [route]}],
                    }
                ],
                "listeners": [
                    {
                        "name": "one",
                        "address": f"127.0.0.1:{port}",
                        "bind_port": True,
                        "stream_filters": [{"type": "fault", "config": delay}],
                        "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
                    }
                ],
            }
        ],
        "cluster_manager": {"clusters": []},
    }
