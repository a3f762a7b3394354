"""Issue 17, show 2: no handshake is lost by reloads, crashes, upgrades or other numbers of workers, over a slow link."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from delayed_link import CLIENT, PROXY_ADDRESS, DelayedLink, delayed_link
from namespaces import Unavailable
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, eventually, is_stopped
from showing import sized, tell
from tests.kit.unix_http import UnixHttp

from pymosn.server.admin_client import upgrade_running
from pymosn.server.listener_end import HANDSHAKE_TIME
from pymosn.server.restart_policy import STABLE_TIME

PORT: Final = 34080
#: Attempts to ask the admin API.
ATTEMPTS: Final = 5
#: How many connections may be open at once.
OPEN: Final = 400
#: Milliseconds from which a connection may have needed a second SYN, which follows after a second.
SLOW: Final = 1000.0
#: The numbers of workers, one after the other: fewer, more, and back.
COUNTS: Final = (1, 4, 2, 3, 1, 2, 4, 3)
REFUSED: Final = "ConnectionRefusedError"
REQUEST: Final = b"GET / HTTP/1.1\r\nhost: show\r\nconnection: close\r\n\r\n"


class Visit(NamedTuple):
    """One connection with one request. `outcome`: "200", or what went wrong. `port`: the client's; 0 if it was refused."""

    outcome: str
    port: int
    milliseconds: float


class Visitors:
    """Connects again and again from the client's namespace, in a thread."""

    def __init__(self, link: DelayedLink, interval: float) -> None:
        """`interval`: seconds between two connections."""
        self.visits: list[Visit] = []
        self._interval = interval
        self._begun = 0
        self._open: set[int] = set()
        self._news = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=lambda: link.call(CLIENT, lambda: asyncio.run(self._run())), daemon=True)
        self._thread.start()

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while not self._is_stopping:
            if len(self._open) < OPEN:
                with self._news:
                    self._begun += 1
                    self._open.add(self._begun)
                task = asyncio.ensure_future(self._visit(self._begun))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(self._interval)
        await asyncio.gather(*tasks)

    async def _visit(self, number: int) -> None:
        began = time.monotonic()
        port = 0
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(PROXY_ADDRESS, PORT)
                port = writer.get_extra_info("sockname")[1]
                writer.write(REQUEST)
                answer = await reader.read()
                writer.close()
            outcome = answer[9:12].decode() or "closed without an answer"
        except OSError as error:  # TimeoutError is one
            outcome = type(error).__name__
        with self._news:
            self._open.discard(number)
            self.visits.append(Visit(outcome, port, (time.monotonic() - began) * 1000))
            self._news.notify_all()

    def wait_for(self, count: int) -> None:
        """Waits until so many more connections have ended."""
        with self._news:
            wanted = len(self.visits) + count
            assert self._news.wait_for(lambda: len(self.visits) >= wanted, PATIENCE), Counter(self.visits)

    def wait_for_open(self) -> None:
        """Waits until all connections that are open now have ended."""
        with self._news:
            last = self._begun
            assert self._news.wait_for(lambda: min(self._open, default=last + 1) > last, 2 * PATIENCE)

    def stop(self) -> None:
        self._is_stopping = True
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()


def config(name: str, port: int = PORT) -> dict[str, Any]:
    """One listener of that name. Its address is always the same, except where it is removed."""
    proxy = {"downstream_protocol": "Http1", "upstream_protocol": "Http1", "router_config_name": "routes"}
    answers = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": "here"}}
    listener = {
        "name": name,
        "address": f"{PROXY_ADDRESS}:{port}",
        "bind_port": True,
        "filter_chains": [{"filters": [{"type": "proxy", "config": proxy}]}],
    }
    hosts = [{"name": "all", "domains": ["*"], "routers": [answers]}]
    server = {"default_log_path": "stdout", "listeners": [listener]}
    server["routers"] = [{"router_config_name": "routes", "virtual_hosts": hosts}]
    return {"servers": [server], "cluster_manager": {}}


class Rig:
    """The program behind the link, with connections that come all the time."""

    def __init__(self, link: DelayedLink, start: Start, folder: Path, workers: int, interval: float) -> None:
        self.link = link
        self.path = folder / "conf" / "mosn.json"
        self.proxy: Pymosn = start(config("first"), "--workers", str(workers))
        self.proxy.wait_for(READY)
        self.visitors = Visitors(link, interval)
        self.visitors.wait_for(20)
        #: The processes that have served, the newest last.
        self.pids = [self.proxy.process.pid]
        # Since when the workers serve that have replaced others; the first ones are replaced at once anyway.
        self._since = dict.fromkeys(self.workers(), 0.0)
        #: Handshakes that were half open when something happened, and client ports that a crashed worker had accepted.
        self.half_open = 0
        self.accepted: set[int] = set()

    def ask(self, target: str) -> Any:
        """What the admin API answers. A process that leaves may close the connection before it has read the request."""
        for _ in range(ATTEMPTS):
            with (
                contextlib.suppress(ConnectionError),
                contextlib.closing(UnixHttp(self.proxy.admin_socket, PATIENCE)) as made,
            ):
                made.request("GET", target)
                return json.loads(made.getresponse().read())
        raise AssertionError("no answer of the admin API")

    def workers(self) -> list[int]:
        """The process ids of the workers, those of the newest generation."""
        return [worker["pid"] for worker in self.ask("/api/v1/workers")]

    def states(self) -> list[str]:
        return [worker["state"] for worker in self.ask("/api/v1/workers")]

    def run(self, what: str, turns: int, act: Callable[["Rig", int], None], *good: str) -> None:
        """Does something a number of times, and fails if a connection was lost. `good`: outcomes besides 200.

        Where clients are refused in the end, handshakes get HANDSHAKE_TIME to complete; on a busy machine some take longer.
        """
        if turns == 0:
            return
        first = len(self.visitors.visits)
        self.half_open, self.accepted = 0, set()
        for turn in range(turns):
            act(self, turn)
            self.visitors.wait_for(20)
        self.visitors.wait_for_open()
        visits = self.visitors.visits[first:]
        bad = [visit for visit in visits if visit.outcome not in ("200", *good) and visit.port not in self.accepted]
        late = [visit for visit in bad if REFUSED in good and visit.milliseconds > HANDSHAKE_TIME * 1000]
        lost = [visit for visit in bad if visit not in late]
        times = sorted(visit.milliseconds for visit in visits)
        tell(
            f"{turns} {what}",
            connections=len(visits),
            half_open_meanwhile=self.half_open,
            lost=dict(Counter(visit.outcome for visit in lost)),
            late=len(late),
            slow=sum(time > SLOW for time in times),
            p50_ms=round(times[len(times) // 2]),
            longest_ms=round(times[-1]),
        )
        assert lost == []

    def reload(self, config: dict[str, Any], *, is_served: bool = True) -> None:
        """Activates a configuration. `is_served`: whether clients are not refused before."""
        before = self.ask("/api/v1/last_change")["attempt"]
        self.path.write_text(json.dumps(config))
        if is_served:
            self.note_half_open()
        self.proxy.send(signal.SIGHUP)
        assert eventually(lambda: self.ask("/api/v1/last_change")["attempt"] > before)
        assert self.ask("/api/v1/last_change")["applied"]

    def oldest_worker(self) -> int:
        """The oldest worker, once it has served so long that it is replaced at once if it dies."""
        workers = self.workers()
        since = self._since = {pid: self._since.get(pid, time.monotonic()) for pid in workers}
        oldest = min(workers, key=lambda pid: since[pid])
        while time.monotonic() - since[oldest] < STABLE_TIME + 0.2:
            self.visitors.wait_for(10)
        return oldest

    def end(self) -> None:
        """Ends all processes."""
        self.visitors.stop()
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def note_half_open(self) -> None:
        """Waits until handshakes are half open, and counts them."""
        found: list[int] = []
        assert eventually(lambda: bool(found.append(self.link.half_open()) or found[-1]))
        self.half_open += found[-1]

    def wait_for_refusals(self, since: int) -> None:
        """Waits until a client is refused. `since`: the number of visits before."""
        assert eventually(lambda: any(visit.outcome == REFUSED for visit in self.visitors.visits[since:]))


def rename(rig: Rig, turn: int) -> None:
    """Reloads a configuration in which the listener has another name."""
    rig.reload(config(f"listener{turn}"))


def remove(rig: Rig, turn: int) -> None:
    """Removes the listener, and adds it again when clients are refused."""
    count = len(rig.visitors.visits)
    rig.reload(config("elsewhere", PORT + 1))
    rig.wait_for_refusals(count)
    rig.reload(config("first"), is_served=False)


def upgrade(rig: Rig, turn: int, **asked: int) -> None:
    """Makes another process take over, and waits until the one before has ended."""
    rig.note_half_open()
    result = upgrade_running(rig.proxy.admin_socket, asked, PATIENCE, lambda text: None)
    rig.note_half_open()
    assert result["done"], result
    rig.pids.append(result["pid"])
    assert eventually(lambda: len(rig.ask("/api/v1/upgrade")["generations"]) == 1)


def drop(rig: Rig, turn: int) -> None:
    """An upgrade whose configuration lacks the address, which comes back by a reload when clients are refused."""
    count = len(rig.visitors.visits)
    rig.path.write_text(json.dumps(config("elsewhere", PORT + 1)))
    upgrade(rig, turn)
    rig.wait_for_refusals(count)
    rig.reload(config("first"), is_served=False)


def change_count(rig: Rig, turn: int) -> None:
    """An upgrade to another number of workers."""
    count = COUNTS[turn % len(COUNTS)]
    upgrade(rig, turn, workers=count)
    assert len(rig.workers()) == count


def stop(rig: Rig, turn: int) -> None:
    """Ends the program gracefully, by its first process."""
    rig.note_half_open()
    rig.proxy.send(signal.SIGTERM)
    assert rig.proxy.exit_code() == 0


def crash(rig: Rig, turn: int) -> None:
    """Kills a worker. What it has accepted is lost with it, and nothing else."""
    victim, workers = rig.oldest_worker(), rig.workers()
    os.kill(victim, signal.SIGSTOP)  # so that it accepts no more, and what it has can be listed
    assert eventually(lambda: is_stopped(victim))
    rig.accepted |= clients_of(victim)
    rig.note_half_open()
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: victim not in rig.workers() and rig.states() == ["running"] * len(workers))


def clients_of(pid: int) -> set[int]:
    """Client ports of the connections that the process has accepted."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(fields[2][9:], 16) for fields in lines if fields[9] in inodes and fields[3] != "0A"}


@pytest.fixture
def link() -> Iterator[DelayedLink]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(delayed_link())
        except Unavailable as why:
            pytest.skip(f"no network namespaces with TUN devices: {why}")
        yield made


class Turns(NamedTuple):
    """How often each event happens. `interval`: seconds between two connections."""

    interval: float
    reloads: int
    removals: int
    crashes: int
    upgrades: int
    drops: int
    counts: int


SMALL: Final = pytest.param(Turns(0.02, 1, 0, 1, 1, 1, 0), marks=pytest.mark.timeout(400))


@sized("turns", SMALL, Turns(0.004, 20, 20, 20, 20, 20, 20), limit=3000)
def test_no_handshake_is_lost(link: DelayedLink, start: Start, tmp_path: Path, turns: Turns) -> None:
    rig = Rig(link, start, tmp_path, 2, turns.interval)
    try:
        rig.run("reloads that rename the listener", turns.reloads, rename)
        # Who connects later is refused; who has begun to connect is served.
        rig.run("reloads that remove the listener, and as many that add it", turns.removals, remove, REFUSED)
        rig.run("worker crashes", turns.crashes, crash)
        rig.run("upgrades", turns.upgrades, upgrade)
        rig.run("upgrades that drop the address", turns.drops, drop, REFUSED)
        rig.run("changes of the number of workers", turns.counts, change_count)
        rig.run("shutdown", 1, stop, REFUSED)
    finally:
        rig.end()
