"""Random servers, consumers and interruptions against the machines of the xDS client.

Invariants: no request has a stale nonce, each nonce is answered at most once, a rejected version is never reported as the
last accepted one, and what the consumer holds is what a simple model of the protocol says.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymosn.control.xds.delta import DeltaSubscription
from pymosn.control.xds.exchanges import Entry, Request, Response
from pymosn.control.xds.sotw import SotwSubscription
from pymosn.control.xds.subscription import Subscription
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, Update

# `make fuzz` gives a time; a normal run takes a second.
_EXAMPLES = 20_000 if os.environ.get("PYMOSN_FUZZ_SECONDS") else 300
NAMES = "abcde"

names = st.sampled_from(NAMES)
few = st.sampled_from("ab")
entries = st.lists(
    st.tuples(names, st.sampled_from(["good", "fine", "bad", "beat", "broken"]), st.sampled_from([None, 0.5, 3.0])),
    max_size=6,
)
#: A response, and which of the client's steps follow at once.
answers = st.tuples(st.just("answer"), entries, st.lists(names, max_size=2), st.sampled_from(["", "take", "decide", "send"]))
actions = st.lists(
    st.one_of(
        answers,
        answers,
        st.tuples(st.just("take")),
        st.tuples(st.just("decide")),
        st.tuples(st.just("send")),
        st.tuples(st.just("want"), st.sets(st.sampled_from([*NAMES, "*"]))),
        st.tuples(st.just("reconnect")),
        st.tuples(st.just("disconnect")),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 20.0])),
    ),
    max_size=40,
)


class Consumer:
    """What a consumer holds by its updates alone, and by the names that are subscribed."""

    def __init__(self, machine: Subscription) -> None:
        self.machine = machine
        self.held: dict[str, str] = {}
        self.update: Update | None = None

    def apply(self, update: Update) -> dict[str, str]:
        assert len({one.name for one in update.resources}) == len(update.resources)
        rejected = {}
        for one in update.resources:
            assert one.body, "heartbeats are not for the consumer"
            if one.body == b"bad":
                rejected[one.name] = "bad"
            else:
                self.held[one.name] = one.version
        assert not {one.name for one in update.resources} & (set(update.removed) | update.faults.keys() | set(update.absent))
        for name in update.removed:
            assert name in self.held, "removed, but never delivered"
            del self.held[name]
        return rejected

    def forget(self) -> None:
        """A consumer forgets what it no longer subscribes."""
        self.held = {name: version for name, version in self.held.items() if self.machine.covers(name)}


class Run:
    """Plays one list of actions."""

    def __init__(self, machine: Subscription) -> None:
        self.machine = machine
        self.consumer = Consumer(machine)
        self.now = 0.0
        self.nonces: list[str] = []
        self.answered: set[str] = set()
        self.reported: set[str] = set()
        self.accepted = {""}
        self.count = 0

    def step(self, action: tuple[Any, ...]) -> None:
        getattr(self, action[0])(*action[1:])
        self.machine.status(self.now)

    def want(self, wanted: set[str]) -> None:
        if self.machine.type_url == ENDPOINTS:
            wanted = wanted - {"*"}
        self.machine.want(dict.fromkeys(wanted, 1.0), self.now)
        self.consumer.forget()

    def reconnect(self) -> None:
        self.disconnect()
        self.machine.opened()
        self.nonces = []
        self.send()

    def disconnect(self) -> None:
        if self.machine.is_open:
            self.machine.closed()

    def answer(self, parts: list[tuple[str, str, float | None]], removed: list[str], then: str) -> None:
        if not self.machine.is_open or not self.machine.has_asked:
            return
        self.count += 1
        version, nonce = f"v{self.count}", f"n{self.count}"
        found = []
        for name, kind, ttl in parts:
            fault = "broken" if kind == "broken" else ""
            body = None if kind in ("beat", "broken") else kind.encode()
            found.append(Entry(name, version, body, ttl, fault))
        gone = tuple(removed) if isinstance(self.machine, DeltaSubscription) else ()
        self.nonces.append(nonce)
        self.machine.receive(Response(self.machine.type_url, version, nonce, found, gone), self.now)
        for name in ("take", "decide", "send") if then else ():
            getattr(self, name)()
            if name == then:
                break

    def take(self) -> None:
        if self.consumer.update is None:
            self.consumer.update = self.machine.take(self.now)

    def decide(self) -> None:
        update = self.consumer.update
        if update is None:
            return
        rejected = self.consumer.apply(update)
        self.machine.decided(rejected, self.now)
        self.consumer.update = None
        self.consumer.forget()
        if not rejected and not update.faults:
            self.accepted.add(update.version)

    def send(self) -> None:
        for _ in range(10):
            request = self.machine.next_request(self.now)
            if request is None:
                return
            self.check(request)
        raise AssertionError("requests without end")

    def check(self, request: Request) -> None:
        assert self.machine.is_open
        assert request.nonce in ("", *self.nonces[-1:]), "a stale nonce, or one of another stream"
        is_delta = isinstance(self.machine, DeltaSubscription)
        if request.error:
            assert request.nonce
            assert request.nonce not in self.reported, "rejected twice"
            self.reported.add(request.nonce)
        if is_delta and request.nonce:
            assert request.nonce not in self.answered, "answered twice"
            self.answered.add(request.nonce)
        if not is_delta and not self.machine.is_wildcard and self.machine.type_url == ENDPOINTS:
            assert request.names, "an empty list would mean all"

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def settle(self) -> None:
        """Afterwards nothing is due, and the consumer has what the machine thinks that it has."""
        for _ in range(100):
            self.decide()
            self.take()
            if self.consumer.update is None:
                break
        assert self.consumer.update is None
        self.wait(100.0)
        for _ in range(100):
            self.take()
            self.decide()
        self.send()
        assert self.machine.held == self.consumer.held
        at, send_at = self.machine.take_at(), self.machine.send_at()
        assert at is None or at > self.now
        assert send_at is None


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINTS])
@pytest.mark.parametrize("kind", [SotwSubscription, DeltaSubscription])
def test_random_servers(kind: type[Subscription], type_url: str) -> None:
    @settings(max_examples=_EXAMPLES, deadline=None, derandomize="PYMOSN_FUZZ_SECONDS" not in os.environ)
    @given(actions)
    def play(steps: list[tuple[Any, ...]]) -> None:
        run = Run(kind(type_url, lambda: 0.5))
        run.step(("want", {"*"} if type_url == CLUSTER else {"a", "b"}))
        run.step(("reconnect",))
        for step in steps:
            run.step(step)
        run.settle()

    play()


@pytest.mark.parametrize("kind", [SotwSubscription, DeltaSubscription])
def test_a_correct_server_and_the_client_agree(kind: type[Subscription]) -> None:
    """Names come and go, streams end, responses wait: at the end the consumer has what the server has for its names."""
    # After some changes everything is served and applied; others happen in between.
    change = st.tuples(
        st.sampled_from(["set", "unset", "want", "want", "cut", "apply", "serve"]), st.sets(few), st.booleans()
    )

    @settings(max_examples=_EXAMPLES, deadline=None, derandomize="PYMOSN_FUZZ_SECONDS" not in os.environ)
    @given(st.lists(change, max_size=30))
    def play(steps: list[tuple[str, set[str], bool]]) -> None:
        server = Server(kind(ENDPOINTS, lambda: 0.5))
        server.set(set("ab"))
        for action, chosen, settles in steps:
            getattr(server, action)(chosen)
            if settles:
                server.settle()
        server.settle()
        wanted = server.machine.wanted
        assert server.consumer.held == {name: version for name, version in server.has.items() if name in wanted}

    play()


class Server:
    """A correct control plane for endpoints, with the client's machine and its consumer."""

    def __init__(self, machine: Subscription) -> None:
        self.machine = machine
        self.consumer = Consumer(machine)
        self.has: dict[str, str] = {}
        self.count = 0
        # Of all resources, in the state of the world.
        self.version = ""
        self.subscribed: set[str] = set()
        # What the client has by what this stream was sent.
        self.sent: dict[str, str] = {}
        self.nonce = ""
        machine.opened()

    def settle(self) -> None:
        for _ in range(6):
            self.serve(set())
            self.apply(set())

    def set(self, chosen: set[str]) -> None:
        for name in chosen:
            self.count += 1
            self.has[name] = self.version = str(self.count)

    def unset(self, chosen: set[str]) -> None:
        # Endpoints disappear silently in the state of the world, so only delta can agree about them.
        if isinstance(self.machine, DeltaSubscription):
            for name in chosen:
                self.has.pop(name, None)

    def want(self, chosen: set[str]) -> None:
        self.machine.want(dict.fromkeys(chosen, 0.0), 0.0)
        self.consumer.forget()

    def cut(self, _chosen: set[str]) -> None:
        self.machine.closed()
        self.machine.opened()
        self.subscribed, self.sent, self.nonce = set(), {}, ""

    def apply(self, _chosen: set[str]) -> None:
        while (update := self.machine.take(0.0)) is not None:
            self.machine.decided(self.consumer.apply(update), 0.0)
            self.consumer.forget()

    def serve(self, _chosen: set[str]) -> None:
        while (request := self.machine.next_request(0.0)) is not None:
            if isinstance(self.machine, DeltaSubscription):
                self._take_delta(request)
            elif request.nonce == self.nonce:
                self._take_sotw(request)
            self._push()
        self._push()

    def _take_sotw(self, request: Request) -> None:
        if not request.version:
            self.sent.clear()
        elif not self.nonce and request.version == self.version:
            # Like go-control-plane: with the current version the client has all that it names.
            self.sent = {name: self.has[name] for name in request.names if name in self.has}
        self.sent = {name: version for name, version in self.sent.items() if name in request.names}
        self.subscribed = set(request.names)

    def _take_delta(self, request: Request) -> None:
        self.sent.update(request.versions)
        # Of a name in both lists servers differ; so this one takes it as given up.
        self.subscribed = (self.subscribed | set(request.subscribe)) - set(request.unsubscribe)
        for name in request.unsubscribe:
            self.sent.pop(name, None)
        for name in request.subscribe:
            if name not in request.versions and name not in request.unsubscribe:
                self.sent.pop(name, None)

    def _push(self) -> None:
        new = {
            name: version for name, version in self.has.items() if name in self.subscribed and self.sent.get(name) != version
        }
        gone = tuple(name for name in self.sent if name not in self.has)
        if not new and not gone:
            return
        self.count += 1
        self.nonce = f"n{self.count}"
        found = [Entry(name, version, b"good") for name, version in new.items()]
        self.sent.update(new)
        for name in gone:
            del self.sent[name]
        self.machine.receive(Response(ENDPOINTS, self.version, self.nonce, found, gone), 0.0)
