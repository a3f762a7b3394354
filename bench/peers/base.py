"""The interface of a peer."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.cases import HEADER, HTTP1, Case
from bench.certificate import Certificate
from bench.processes import Processes


@dataclass(frozen=True)
class Plan:
    """The setup of a peer: a proxy from `port` to `upstream_port` with `filters` filters of `kind`.

    `kind`, `hosts`, `routes`: as in a case; see `host_name` and `route_kinds` in bench.cases. `directory`: for the peer's
    files. Filter k reads the request header `x-user`, sets the request header `x-bench-k` to its value, and sets the
    response header `x-served-k`. `certificate`: for a listener with TLS. `front`, `back`: what the clients and
    the upstream speak, HTTP1 or HTTP2; with TLS, HTTP/2 is agreed to by ALPN.
    """

    port: int
    upstream_port: int
    filters: int
    directory: Path
    hosts: int = 0
    routes: int = 0
    kind: str = HEADER
    certificate: Certificate | None = None
    front: str = HTTP1
    back: str = HTTP1

    @property
    def filter_numbers(self) -> range:
        """The k of each header filter."""
        return range(1, self.filters + 1)


@dataclass(frozen=True)
class Running:
    """A started peer. `workers` handle the traffic and are measured; `helpers` are its other processes."""

    process: subprocess.Popen[bytes]
    plan: Plan
    workers: list[int]
    helpers: list[int] = field(default_factory=list)


class Peer(ABC):
    """One proxy program."""

    name: str
    #: Whether it understands HTTP: a relay adds no headers and runs no filters.
    http: bool = True
    #: Whether it supports many virtual hosts and the routes of bench.cases, with the same semantics as the others.
    takes_hosts: bool = False
    takes_routes: bool = False
    #: Whether it forwards chunks without delay, and the kinds of filters that it can run.
    takes_streams: bool = False
    takes_tls: bool = True
    #: Whether it adds the header fields that `verify` requires.
    adds_fields: bool = True
    kinds: tuple[str, ...] = (HEADER,)
    #: The versions of HTTP that it translates between: those of the clients, each with that of the upstream.
    ways: tuple[tuple[str, str], ...] = ((HTTP1, HTTP1),)

    def takes(self, case: Case) -> bool:
        """Whether it supports the case."""
        return (
            (self.http or not case.filters)
            and (case.kind in self.kinds)
            and (self.takes_streams or not case.streams)
            and (self.takes_hosts or not case.hosts)
            and (self.takes_routes or not case.routes)
            and (self.takes_tls or not case.tls)
            and (case.front, case.back) in self.ways
        )

    @abstractmethod
    def version(self) -> str:
        """Name and version, for the report."""

    @abstractmethod
    def command(self, plan: Plan) -> list[str]:
        """Writes the configuration; returns the command that starts the peer in the foreground."""

    def environment(self) -> Mapping[str, str] | None:
        """The environment of that command; None for that of this process."""
        return None

    def split(self, process: subprocess.Popen[bytes]) -> tuple[list[int], list[int]]:
        """The process ids of workers and helpers once the peer accepts connections."""
        return [process.pid], []

    def start(self, plan: Plan, processes: Processes, core: int) -> Running:
        """Starts the peer. Raises Unavailable, with its output, if it does not become ready."""
        plan.directory.mkdir(parents=True, exist_ok=True)
        log_name = plan.directory.name
        process = processes.start(log_name, self.command(plan), core, self.environment())
        processes.wait_for_port(log_name, process, plan.port)
        workers, helpers = self.split(process)
        return Running(process, plan, workers, helpers)


def first_line(command: list[str], env: Mapping[str, str] | None = None) -> str:
    """The first non-empty line that `command` prints to stdout or stderr. Raises OSError and SubprocessError."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=True, env=env, text=True
    )
    return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")
