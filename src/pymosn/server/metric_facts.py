"""The samples of `/metrics` that are not counters: of the process, its workers, the configuration and certificates."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pymosn.control.certificates import MAX_METRICS, Used
from pymosn.observe.families import PREFIX, Fact
from pymosn.observe.processes import total_use, use_of
from pymosn.version import VERSION, build

STATES: Final = ("starting", "running", "draining")


class ProcessState(NamedTuple):
    """What the supervisor knows. Times in seconds since 1970.

    `workers`: process id and state. `version`: of the active configuration, which has been active since `activated`.
    `was_applied`: whether the last change was.
    """

    started: float
    generation: int
    workers: list[tuple[int, str]]
    configured: int
    version: int
    was_applied: bool
    activated: float


def facts_of(state: ProcessState, certificates: Iterable[Used]) -> list[Fact]:
    """All facts. Reads /proc, so it takes some time."""
    return [*_process(state), *_config(state), *_certificates(certificates)]


def _fact(family: str, value: float, **labels: str) -> Fact:
    return Fact(f"{PREFIX}{family}", tuple(labels.items()), value)


def _process(state: ProcessState) -> Iterator[Fact]:
    yield _fact("build", 1, version=VERSION, python=platform.python_version(), build=build())
    yield _fact("start_time_seconds", state.started)
    yield _fact("generation", state.generation)
    for name in STATES:
        yield _fact("workers", sum(worker[1] == name for worker in state.workers), state=name)
    yield _fact("workers_configured", state.configured)
    yield _fact("process_cpu_seconds", total_use([pid for pid, _ in state.workers]).cpu)
    names = {os.getpid(): "supervisor", **{pid: f"worker-{index}" for index, (pid, _) in enumerate(state.workers, 1)}}
    for pid, name in names.items():
        use = use_of(pid)
        if use is not None:
            yield _fact("process_resident_memory_bytes", use.resident, process=name)


def _config(state: ProcessState) -> Iterator[Fact]:
    yield _fact("config_generation", state.version)
    yield _fact("config_last_reload_successful", int(state.was_applied))
    yield _fact("config_last_reload_success_timestamp_seconds", state.activated)


def _certificates(certificates: Iterable[Used]) -> Iterator[Fact]:
    seen: set[tuple[str, str]] = set()
    for used in certificates:
        key = used.certificate.label, used.certificate.fingerprint[:16]
        if key not in seen and len(seen) < MAX_METRICS:
            seen.add(key)
            name, fingerprint = key
            end = used.certificate.not_after
            yield _fact("certificate_expiry_timestamp_seconds", end, name=name, fingerprint=fingerprint)
