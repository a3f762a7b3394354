"""All kinds of clients of upgrades under load, in a process of their own: `python -m tests.load.upgrade_clients`.

Reads one line of JSON from standard input (`Places`), and makes requests until standard input ends. Says `running` when each
kind has succeeded once, or is not able to. The last line is the list of tallies as JSON.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
import uvloop
from tests.kit.rpc_wires import WIRES
from tests.load import upgrade_h2 as h2
from tests.load import upgrade_http1 as http1
from tests.load import upgrade_rpc as rpc
from tests.load import upgrade_streams as streams
from tests.load.tally import Tally

#: Messages of a stream that ends before `graceful_timeout`.
SHORT: Final = 8
#: Seconds for the last responses.
PATIENCE: Final = 40.0

Talk = Callable[[Tally, asyncio.Event], Coroutine[Any, Any, None]]
Threaded = Callable[[Tally, threading.Event], None]


class Places(msgspec.Struct):
    """Where the listeners are, the CA that signed for them, and which kinds to run; all, if the list is empty."""

    ports: dict[str, int]
    unix: str
    ca: str
    kinds: list[str] = []


class Clients:
    """All kinds of clients, and their tallies."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._context = _context(places.ca, "http/1.1")
        self._h2_context = _context(places.ca, "h2")
        self._stop = asyncio.Event()
        self._stopped = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._threads: list[threading.Thread] = []
        self.tallies: list[Tally] = []

    def start(self) -> None:
        """Starts them."""
        ports, path = self._places.ports, self._places.unix
        secure = self._context
        self._run("keep-alive", "http1", 8, lambda tally, stop: http1.keep_alive(tally, stop, ports["http1"]))
        self._run("pipelined", "http1", 2, lambda tally, stop: http1.pipelined(tally, stop, ports["http1"]))
        self._run("new connections", "http1", 4, lambda tally, stop: http1.new_connections(tally, stop, ports["http1"]))
        self._run("idle", "http1", 16, lambda tally, stop: http1.idle(tally, stop, ports["http1"], len(self._tasks)))
        self._run("halves", "http1", 6, lambda tally, stop: http1.halves(tally, stop, ports["http1"], len(self._tasks)))
        self._run("download", "http1", 1, lambda tally, stop: http1.downloads(tally, stop, ports["http1"], False))
        self._run("chunked download", "http1", 1, lambda tally, stop: http1.downloads(tally, stop, ports["http1"], True))
        self._run("upload", "http1", 2, lambda tally, stop: http1.uploads(tally, stop, ports["http1"]))
        self._run("unix", "unix", 1, lambda tally, stop: http1.unix_socket(tally, stop, path))
        self._run("tls", "tls", 4, lambda tally, stop: http1.keep_alive(tally, stop, ports["tls"], secure))
        self._run("silent tls", "tls", 2, lambda tally, stop: http1.silent_tls(tally, stop, ports["tls"], secure))
        self._run("h2", "h2", 2, lambda tally, stop: h2.http2(tally, stop, ports["h2"], None))
        self._run("silent h2", "h2", 2, lambda tally, stop: h2.silent_h2(tally, stop, ports["h2"], None))
        self._run("tls h2", "tls-h2", 2, lambda tally, stop: h2.http2(tally, stop, ports["tls-h2"], self._h2_context))
        self._run(
            "silent tls h2", "tls-h2", 2, lambda tally, stop: h2.silent_h2(tally, stop, ports["tls-h2"], self._h2_context)
        )
        for name in ("bolt", "dubbo"):
            self._run(name, name, 2, lambda tally, stop, name=name: rpc.calls(tally, stop, ports[name], WIRES[name]))
        self._run("websocket", "ws", 2, lambda tally, stop: streams.web_socket(tally, stop, ports["ws"], SHORT))
        self._run("long websocket", "ws", 2, lambda tally, stop: streams.web_socket(tally, stop, ports["ws"], 0))
        self._run("tcp", "tcp", 2, lambda tally, stop: streams.tcp(tally, stop, ports["tcp"], SHORT))
        self._run("long tcp", "tcp", 2, lambda tally, stop: streams.tcp(tally, stop, ports["tcp"], 0))
        self._run("udp", "udp", 4, lambda tally, stop: streams.udp(tally, stop, ports["udp"]))
        self._run_thread("grpc", lambda tally, stop: streams.grpc_unary(tally, stop, ports["grpc"]))
        self._run_thread("grpc stream", lambda tally, stop: streams.grpc_stream(tally, stop, ports["grpc"], SHORT))
        self._run_thread("long grpc stream", lambda tally, stop: streams.grpc_stream(tally, stop, ports["grpc"], 0))

    def _tally(self, kind: str, listener: str, count: int = 1) -> Tally | None:
        if self._places.kinds and kind not in self._places.kinds:
            return None
        self.tallies.append(Tally(kind, listener, count))
        return self.tallies[-1]

    def _run(self, kind: str, listener: str, count: int, talk: Talk) -> None:
        tally = self._tally(kind, listener, count)
        if tally is not None:
            self._tasks += [asyncio.ensure_future(self._guarded(talk, tally)) for _ in range(count)]

    async def _guarded(self, talk: Talk, tally: Tally) -> None:
        try:
            await talk(tally, self._stop)
        except Exception:
            tally.fail("the client is broken", traceback.format_exc())

    def _run_thread(self, kind: str, talk: Threaded) -> None:
        tally = self._tally(kind, "grpc")
        if tally is not None:
            self._threads.append(threading.Thread(target=self._guarded_thread, args=(talk, tally), daemon=True, name=kind))
            self._threads[-1].start()

    def _guarded_thread(self, talk: Threaded, tally: Tally) -> None:
        try:
            talk(tally, self._stopped)
        except Exception:
            tally.fail("the client is broken", traceback.format_exc())

    async def are_running(self) -> None:
        """Waits until each kind has asked once, or has failed; those with large bodies are at their first request."""
        quick = [tally for tally in self.tallies if "load" not in tally.kind]
        while not all(tally.asked or tally.failed for tally in quick):
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Lets each client finish what it is at."""
        self._stop.set()
        self._stopped.set()
        late = [task for task in self._tasks if not task.done()]
        if late:
            late = list((await asyncio.wait(late, timeout=PATIENCE))[1])
        for thread in self._threads:
            await asyncio.to_thread(thread.join, PATIENCE)
        for what in (*(task.get_coro() for task in late), *(thread for thread in self._threads if thread.is_alive())):
            self.tallies[0].fail("hangs", repr(what))


def _context(ca: str, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca)
    context.set_alpn_protocols([alpn])
    return context


async def main() -> None:
    """Runs the clients until standard input ends."""
    places = msgspec.json.decode(sys.stdin.readline(), type=Places)
    clients = Clients(places)
    clients.start()
    await clients.are_running()
    print("running", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await clients.stop()
    print(msgspec.json.encode(clients.tallies).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
