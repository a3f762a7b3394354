"""The table of stages and events at the top of `proxy/exchange.py`, held against the code cell by cell."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from exchange_ends import Client, Protocol, Sender

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.network import Dialer
from pymosn.api.stream import ResponseReceiver, StreamProtocol
from pymosn.core.failure import CLIENT_GONE, CONNECT_REFUSED, RESET_BEFORE_RESPONSE, Failure
from pymosn.core.log import Log
from pymosn.core.message import UNKNOWN_LENGTH
from pymosn.core.registry import Registry
from pymosn.proxy.events import EVENTS
from pymosn.proxy.exchange import ExchangeDriver
from pymosn.proxy.runtime import Runtime
from pymosn.testing import SERVICE, World
from pymosn.testing.fakes import PROTOCOL, rounds
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan

STAGES = ("FILTERING", "ATTEMPTING", "AWAITING", "HOLDING", "RESPONDING", "TUNNELING", "DONE")
CHUNK = b"chunk"


class Waits(StreamFilter):
    """Waits in the phases that it is told, until the test lets it go on."""

    def __init__(self, phases: set[str]) -> None:
        super().__init__({})
        self.phases = phases
        self.answer: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

    async def _wait(self, phase: str) -> Reply | None:
        if phase not in self.phases:
            return None
        self.answer = asyncio.get_running_loop().create_future()
        return await self.answer

    async def on_request(self, exchange: Exchange) -> Reply | None:
        return await self._wait("request")

    async def on_host(self, exchange: Exchange) -> Reply | None:
        return await self._wait("host")

    async def on_response(self, exchange: Exchange) -> Reply | None:
        return await self._wait("response")


class Scene(World):
    """One exchange, the client's end, and all streams that its attempts ask for."""

    def __init__(self, *phases: str, tunnel: bool = False) -> None:
        self.waiting: list[ResponseReceiver] = []
        self.filter = Waits(set(phases))
        super().__init__([self.filter] if phases else [])
        self.client = Client()
        self.client_sent: list[object] = []
        self.driver = ExchangeDriver(self._runtime, self._options, self.client, PROTOCOL)
        self.sender = Sender()
        self.receiver: ResponseReceiver | None = None
        head = HttpRequest()
        head.method, head.path, head.host = ("GET" if tunnel else "POST"), "/", "a"
        head.content_length = 0 if tunnel else UNKNOWN_LENGTH
        head.raw_tunnel = b"websocket" if tunnel else b""
        self._tunnel = tunnel
        self._head = head

    def _make_runtime(self) -> Runtime:
        protocols: Registry[StreamProtocol] = Registry("protocol")
        protocols.add(PROTOCOL, Protocol(self.waiting))
        clusters = Clusters()
        kind = balancers().get("LB_ROUNDROBIN")
        assert kind is not None
        plan = ClusterPlan(SERVICE, (HostPlan("a:80"), HostPlan("b:80")))
        clusters.activate({SERVICE: Cluster(plan, kind, PoolMaker(protocols, Dialer(), self._wheel), self.metrics, None)})
        return Runtime(self.clock, self._wheel, self.metrics, Log(), protocols, clusters)

    @property
    def stage(self) -> str:
        return STAGES[self.driver.stage]

    async def arrive(self) -> None:
        """The request comes in."""
        self.driver.on_request(self._head, b"", self._tunnel)
        await rounds()

    async def give_stream(self) -> None:
        self.receiver = self.waiting.pop()
        self.receiver.on_sender(self.sender)
        await rounds()

    async def respond(self) -> None:
        assert self.receiver is not None
        head = HttpResponse(101 if self._tunnel else 200)
        head.raw_tunnel = b"websocket" if self._tunnel else b""
        self.receiver.on_response(head, b"", False)
        await rounds()


async def filtering() -> Scene:
    scene = Scene("request")
    await scene.arrive()
    return scene


async def attempting(*phases: str) -> Scene:
    scene = Scene(*phases)
    await scene.arrive()
    return scene


async def awaiting(*phases: str, tunnel: bool = False) -> Scene:
    scene = Scene(*phases, tunnel=tunnel)
    await scene.arrive()
    await scene.give_stream()
    return scene


async def holding() -> Scene:
    scene = await awaiting("response")
    await scene.respond()
    return scene


async def responding() -> Scene:
    scene = await awaiting()
    await scene.respond()
    return scene


async def tunneling() -> Scene:
    scene = await awaiting(tunnel=True)
    await scene.respond()
    return scene


async def done() -> Scene:
    scene = await awaiting()
    await scene.respond()
    assert scene.receiver is not None
    scene.receiver.on_data(b"", True)
    return scene


REACH: dict[str, Callable[[], Awaitable[Scene]]] = {
    "FILTERING": filtering,
    "ATTEMPTING": attempting,
    "AWAITING": awaiting,
    "HOLDING": holding,
    "RESPONDING": responding,
    "TUNNELING": tunneling,
    "DONE": done,
}


def fail(scene: Scene, failure: Failure) -> None:
    if scene.receiver is not None:
        scene.receiver.on_reset(failure)
    elif scene.waiting:
        scene.waiting.pop().on_no_sender(failure)


async def send_event(scene: Scene, event: str) -> None:
    driver = scene.driver
    receiver = scene.receiver
    if event == "request data":
        driver.on_data(CHUNK, False)
    elif event == "filter passes":
        scene.filter.answer.set_result(None)
    elif event == "filter replies":
        scene.filter.answer.set_result(Reply(418, "short"))
    elif event == "stream ready":
        if scene.waiting:
            scene.receiver = scene.waiting.pop()
            scene.receiver.on_sender(scene.sender)
        else:
            assert receiver is not None
            receiver.on_sender(Sender())
    elif event == "attempt fails":
        fail(scene, CONNECT_REFUSED if receiver is None else RESET_BEFORE_RESPONSE)
    elif event == "response head":
        assert receiver is not None
        receiver.on_response(HttpResponse(200), b"", False)
    elif event == "response data":
        assert receiver is not None
        receiver.on_data(CHUNK, False)
    elif event == "client gone":
        driver.on_reset(CLIENT_GONE)
    elif event == "timeout":
        driver.on_alarm()
    elif event == "deadline":
        driver.deadline = scene.clock.now
        driver.on_alarm()
    await rounds()


#: Chunks sent upstream, the client's body, attempts.
Snapshot = tuple[int, bytes, int]


def effect(scene: Scene, before: Snapshot) -> str:
    """What an event did, in the words of the table. `before`: chunks sent upstream, the client's body, attempts."""
    sent, body, attempts = before
    client = scene.client
    new_body = b"".join(client.chunks)[len(body) :]
    status = 0 if client.head is None else int(client.head.status)
    if scene.sender.sent[sent:] == [b"END"]:
        return "end"
    if scene.driver.exchange.failure is CLIENT_GONE:
        assert scene.driver.exchange.upstream_address == "" or scene.sender.is_cancelled or not scene.waiting
        return "cancel"
    if client.was_reset:
        return "reset"
    if status == 418:
        return "reply"
    response = scene.driver.exchange.response
    if scene.driver.exchange.failure is not None and response is not None:
        return str(response.status)
    if scene.sender.sent[sent:] == [CHUNK]:
        return "forward"
    if scene.sender.sent[sent:] == [b""] or (new_body == CHUNK):
        return "send"
    if scene.driver.exchange.attempts > attempts:
        return "retry" if attempts else "route"
    return "nothing"


def snapshot(scene: Scene) -> Snapshot:
    return len(scene.sender.sent), b"".join(scene.client.chunks), int(scene.driver.exchange.attempts)


CELLS = [(event, stage) for event, cells in EVENTS.items() for stage in STAGES if cells[STAGES.index(stage)] != "-"]


def test_the_table_is_whole() -> None:
    assert all(len(cells) == len(STAGES) for cells in EVENTS.values())
    assert len(EVENTS) == 10
    assert len(CELLS) > 40


@pytest.mark.parametrize(("event", "stage"), CELLS, ids=lambda value: value.replace(" ", "-"))
def test_each_cell(event: str, stage: str) -> None:
    cell = EVENTS[event][STAGES.index(stage)]

    async def check() -> None:
        scene = await REACH[stage]()
        assert scene.stage == stage
        if event.startswith("filter") and stage == "ATTEMPTING":
            scene = await attempting("host")
        before = snapshot(scene)
        if stage == "DONE" and event.startswith("filter"):
            scene.filter.answer.set_result(None)
        else:
            await send_event(scene, event)
        word, _, after = cell.partition(" > ")
        found = effect(scene, before)
        if word == "ignore":
            assert scene.stage == "DONE"
            assert snapshot(scene) == before
        elif word == "hold":
            assert (found, scene.stage) == ("nothing", stage)
            flow = scene.driver.request_flow if event == "request data" else scene.driver._responder.flow  # type: ignore[union-attr]
            assert flow is not None
            assert flow.body() == CHUNK
        elif word == "acquire":
            assert (len(scene.waiting), scene.stage) == (1, stage)
        elif word.startswith("retry or"):
            can_retry = stage == "ATTEMPTING"  # no byte of the request was sent
            assert (found, scene.stage) == (("retry", "ATTEMPTING") if can_retry else ("502", "DONE"))
        elif word.startswith("filter"):
            assert (found, scene.stage) == ("nothing", "RESPONDING")
            assert scene.client.head is not None
            held = await awaiting("response")
            await send_event(held, event)
            assert (held.client.head, held.stage) == (None, "HOLDING")
        elif word == "send" and event == "filter passes":
            assert scene.client.head is not None
            assert scene.stage == after
        else:
            assert found == word
            assert scene.stage == (after or stage)

    asyncio.run(check())
