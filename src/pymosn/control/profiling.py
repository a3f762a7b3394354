"""`/debug/pprof/`: profiles at the paths, and in the format, of Go's net/http/pprof.

They are served on the port of the key `pprof`, and by the admin API. They cost CPU and show file names, so wherever clients
of other machines may come from, a call needs what a change needs (`access.py`).
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from pymosn.control.access import Door, Power
from pymosn.control.guard import Guard
from pymosn.control.handlers import Call
from pymosn.control.plane import SUPERVISOR, ControlPlane, ProfileError
from pymosn.core.log import Log
from pymosn.core.redaction import redacted_text
from pymosn.observe.flame import as_flame
from pymosn.observe.profile import Profile, Stack, as_folded, as_pprof, as_table

T = TypeVar("T")

ROOT: Final = "/debug/pprof/"
#: Seconds: at most, and by default of CPU (as Go's) and of memory.
LONGEST: Final = 60.0
CPU_SECONDS: Final = 30.0
HEAP_SECONDS: Final = 5.0
_PARAMETERS: Final = ("seconds", "worker", "format", "debug")
_BINARY: Final = "application/octet-stream"
#: Go's profiles that have no counterpart, and why.
_ABSENT: Final = {
    "allocs": "memory that has been freed again is not recorded; use heap",
    "block": "workers do not block on locks; use goroutine, or profile",
    "mutex": "workers do not block on locks; use goroutine, or profile",
    "threadcreate": "the creation of threads is not recorded; goroutine shows them",
    "trace": "there is no execution trace; use profile",
}
_INDEX: Final = """pymosn profiles, as of Go's net/http/pprof

profile    CPU of a worker: ?seconds=30 (at most 60), ?worker=1 (a number from 1, or supervisor)
heap       memory that a worker allocates within ?seconds=5 and keeps, ?worker=1
goroutine  stacks of the threads and tasks of a worker, ?worker=1, as text with ?debug=1
cmdline    the command line
symbol     none: profiles have names

?format=  pprof (default, for go tool pprof), flame (SVG), folded, top, json
One profile of a process at a time. Not available: allocs, block, mutex, threadcreate, trace
"""


class _Query(NamedTuple):
    """The parameters of a call."""

    target: int
    seconds: float
    format: str


class _QueryError(Exception):
    """An invalid parameter."""


def routes(plane: ControlPlane) -> list[Call]:
    """All paths below `/debug/pprof/`."""
    calls: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "": _index,
        "profile": partial(_cpu, plane),
        "heap": partial(_heap, plane),
        "goroutine": partial(_stacks, plane),
        "cmdline": _cmdline,
        "symbol": _symbol,
        **{name: partial(_absent, text) for name, text in _ABSENT.items()},
    }
    return [Call(f"{ROOT}{name}", "GET", Power.PROFILE, handler, parameters=None) for name, handler in calls.items()]


def create_pprof(plane: ControlPlane, log: Log, door: Door) -> ASGIApp:
    """The app of the port `pprof`."""
    calls = routes(plane)
    return Guard({call.path: call for call in calls}, door, log, "".join(f"{call.path}\n" for call in calls))


async def _index(request: Request) -> Response:
    return PlainTextResponse(_INDEX)


async def _cmdline(request: Request) -> Response:
    return PlainTextResponse("\0".join(redacted_text(argument) for argument in sys.orig_argv))


async def _symbol(request: Request) -> Response:
    return PlainTextResponse("num_symbols: 0\n")


async def _absent(text: str, request: Request) -> Response:
    return PlainTextResponse(f"not available: {text}\n", 501)


async def _cpu(plane: ControlPlane, request: Request) -> Response:
    return await _profile(request, "profile", CPU_SECONDS, plane.cpu_profile)


async def _heap(plane: ControlPlane, request: Request) -> Response:
    return await _profile(request, "heap", HEAP_SECONDS, plane.heap_profile)


async def _profile(
    request: Request, name: str, seconds: float, record: Callable[[int, float], Awaitable[Profile]]
) -> Response:
    try:
        query = _query(request, seconds)
        profile = await _while_connected(request, record(query.target, query.seconds))
    except _QueryError as error:
        return PlainTextResponse(f"{error}\n", 400)
    except ProfileError as error:
        return PlainTextResponse(f"{error}\n", error.status)
    if profile is None:
        return Response(status_code=499)
    return await asyncio.to_thread(_shown, profile, name, query)


async def _stacks(plane: ControlPlane, request: Request) -> Response:
    """A sample for each thread and task, or a text with `?debug=1`."""
    try:
        query = _query(request, 1.0)
        found = await plane.stacks(query.target)
    except _QueryError as error:
        return PlainTextResponse(f"{error}\n", 400)
    except ProfileError as error:
        return PlainTextResponse(f"{error}\n", error.status)
    if query.format == "text":
        return PlainTextResponse("\n".join(_stack_text(name, stack) for name, stack in found))
    counts: Counter[Stack] = Counter(stack for _, stack in found)
    samples: Sequence[tuple[Stack, tuple[int, ...]]] = [(stack, (count,)) for stack, count in counts.items()]
    profile = Profile([("goroutine", "count")], list(samples), ("goroutine", "count", 1), 0.0, 0.0)
    return await asyncio.to_thread(_shown, profile, "goroutine", query)


def _stack_text(name: str, stack: Stack) -> str:
    lines = [f"  {call.function}{f' at {call.file}:{call.line}' if call.file else ''}" for call in stack]
    return "\n".join([f"{name}:", *lines, ""])


def _shown(profile: Profile, name: str, query: _Query) -> Response:
    target = "supervisor" if query.target == SUPERVISOR else f"worker {query.target}"
    match query.format:
        case "flame":
            return Response(as_flame(profile, f"pymosn {name}, {target}"), media_type="image/svg+xml")
        case "folded":
            return PlainTextResponse(as_folded(profile))
        case "top" | "text":
            return PlainTextResponse(as_table(profile))
        case "json":
            return Response(msgspec.json.encode(profile), media_type="application/json")
    disposition = f'attachment; filename="{name}-{target.replace(" ", "-")}.pb.gz"'
    return Response(as_pprof(profile), media_type=_BINARY, headers={"content-disposition": disposition})


def _query(request: Request, seconds: float) -> _Query:
    """The parameters, of which `seconds` is a default. Raises _QueryError."""
    query = request.query_params
    for name in query:
        if name not in _PARAMETERS and name != "gc":  # Go's, without a meaning here
            raise _QueryError(f"unknown parameter {name!r}; known: {', '.join(_PARAMETERS)}")
    worker = query.get("worker", "1")
    if worker == "supervisor":
        target = SUPERVISOR
    elif worker.isascii() and worker.isdecimal() and 0 < int(worker[:9]) == int(worker[:20]):
        target = int(worker)
    else:
        raise _QueryError(f"worker must be a number from 1, or supervisor, not {worker[:50]!r}")
    try:
        seconds = float(query.get("seconds", seconds))
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= LONGEST:
        raise _QueryError(f"seconds must be a number above 0 and at most {LONGEST:g}")
    chosen = query.get("format", "text" if query.get("debug", "0") != "0" else "pprof")
    if chosen not in ("pprof", "flame", "folded", "top", "text", "json"):
        raise _QueryError(f"format must be pprof, flame, folded, top or json, not {chosen[:50]!r}")
    return _Query(target, seconds, chosen)


async def _while_connected(request: Request, work: Awaitable[T]) -> T | None:
    """The result of `work`, which is cancelled if the client goes; then None."""
    working: asyncio.Future[T] = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError, ProfileError):
                await working


async def _until_gone(request: Request) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
