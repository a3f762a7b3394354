"""The machines of one type, without I/O: rows of the list of public complaints about xDS clients, by number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest

from pymosn.control.xds.delta import CONFIRM_TIME, DeltaSubscription
from pymosn.control.xds.exchanges import Entry, Request, Response
from pymosn.control.xds.pacing import Backoff, RejectionPacing
from pymosn.control.xds.sotw import SotwSubscription
from pymosn.control.xds.subscription import Subscription
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Update

ALL = {"*": 0.0}


class Rig:
    """A machine with a clock, a consumer that rejects bodies that begin with `bad`, and the requests that it has made."""

    def __init__(self, machine: Subscription) -> None:
        self.machine = machine
        self.now = 0.0
        self.updates: list[Update] = []
        self.requests: list[Request] = []
        self._nonces = itertools.count(1)

    def want(self, **names: float) -> Rig:
        self.machine.want({("*" if name == "all" else name): seconds for name, seconds in names.items()}, self.now)
        return self

    def open(self) -> list[Request]:
        self.machine.opened()
        return self.turn()

    def turn(self) -> list[Request]:
        """Applies and sends everything that is due; returns the new requests."""
        while (update := self.machine.take(self.now)) is not None:
            self.updates.append(update)
            bad = {one.name: f"x: {one.body.decode()}" for one in update.resources if one.body.startswith(b"bad")}
            self.machine.decided(bad, self.now)
        return self.sent()

    def sent(self) -> list[Request]:
        new = []
        while (request := self.machine.next_request(self.now)) is not None:
            assert not request.nonce or request.nonce == self.machine.nonce, "stale"
            new.append(request)
        self.requests += new
        return new

    def at(self, now: float) -> list[Request]:
        self.now = now
        return self.turn()

    def receive(self, version: str, *entries: Entry, removed: tuple[str, ...] = (), nonce: str = "") -> None:
        nonce = nonce or f"n{next(self._nonces)}"
        self.machine.receive(Response(self.machine.type_url, version, nonce, list(entries), removed, 10), self.now)

    def answer(self, version: str, *entries: Entry, removed: tuple[str, ...] = ()) -> list[Request]:
        self.receive(version, *entries, removed=removed)
        return self.turn()


def sotw(type_url: str = CLUSTER, held: Mapping[str, str] | None = None) -> Rig:
    return Rig(SotwSubscription(type_url, lambda: 0.0, held))


def delta(type_url: str = CLUSTER, held: Mapping[str, str] | None = None) -> Rig:
    return Rig(DeltaSubscription(type_url, lambda: 0.0, held))


def one(name: str, body: str = "x", version: str = "", ttl: float | None = None) -> Entry:
    return Entry(name, version, body.encode(), ttl)


def beat(name: str, ttl: float, version: str = "") -> Entry:
    return Entry(name, version, None, ttl)


# ---- row 1: pacing


def test_row_1_the_same_rejected_content_is_rejected_more_and_more_slowly() -> None:
    rig = sotw().want(all=0)
    rig.open()
    pauses = []
    for round_ in range(10):
        rig.receive(str(round_), one("a", "bad"))
        assert len(rig.turn()) == (round_ == 0)
        at = rig.machine.send_at()
        pauses.append(0.0 if at is None else round(at - rig.now, 3))
        if at is not None:
            [request] = rig.at(at)
            assert request.error == "a: x: bad"
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    status = rig.machine.status(rig.now)
    assert (status.nacks, status.nacks_in_row, status.acks) == (10, 10, 0)
    assert len({request.nonce for request in rig.requests}) == 11


def test_row_1_alternating_contents_are_paced_too() -> None:
    pacing = RejectionPacing(lambda: 0.0)
    assert [pacing.delay(digest) for digest in (b"a", b"b", b"a", b"b", b"a")] == [0.0, 0.0, 0.1, 0.2, 0.4]
    pacing.reset()
    assert pacing.delay(b"a") == 0.0


def test_row_1_contents_that_are_always_new_are_paced_after_some() -> None:
    pacing = RejectionPacing(lambda: 0.0)
    assert [pacing.delay(bytes([i])) for i in range(18)] == [0.0] * 16 + [0.1, 0.2]


def test_row_1_the_pause_has_jitter() -> None:
    pacing = RejectionPacing(lambda: 1.0)
    pacing.delay(b"a")
    assert pacing.delay(b"a") == pytest.approx(0.075)


def test_row_1_a_newer_response_overtakes_a_rejection_that_waits() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.answer("1", one("a", "bad"))
    assert rig.answer("2", one("a", "bad")) == []
    [ack] = rig.answer("3", one("a", "good"))
    assert (ack.nonce, ack.version, ack.error) == ("n3", "3", "")
    assert rig.at(100.0) == []
    assert rig.answer("4", one("a", "bad"))[0].error, "an accepted response ends the pacing"


def test_row_1_a_change_of_names_does_not_wait_for_the_pause() -> None:
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("1", one("a", "bad"))
    rig.answer("2", one("a", "bad"))
    assert rig.want(a=0, b=0).turn() == [
        Request(ENDPOINTS, "n2", "a: x: bad", names=("a",)),
        Request(ENDPOINTS, "n2", names=("a", "b")),
    ]


def test_new_names_are_not_part_of_a_rejection_because_istiod_ignores_them_there() -> None:
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("1", one("a"))
    rig.receive("2", one("a", "bad"))
    assert rig.want(a=0, b=0).turn() == [
        Request(ENDPOINTS, "n2", "a: x: bad", "1", ("a",)),
        Request(ENDPOINTS, "n2", version="1", names=("a", "b")),
    ]
    # The request for c may have crossed the response, and is ignored then: c is asked for again after the rejection.
    assert rig.want(a=0, b=0, c=0).turn() == [Request(ENDPOINTS, "n2", version="1", names=("a", "b", "c"))]
    assert rig.answer("3", one("a", "bad2")) == [
        Request(ENDPOINTS, "n3", "a: x: bad2", "1", ("a",)),
        Request(ENDPOINTS, "n3", version="1", names=("a", "b", "c")),
    ]
    assert rig.answer("4", one("a"), one("b"), one("c"))[0].names == ("a", "b", "c")
    assert [request.names for request in rig.answer("5", one("a", "bad3"))] == [("a", "b", "c")]
    rig = delta(ENDPOINTS).want(a=0)
    rig.open()
    rig.receive("1", one("a", "bad"))
    assert rig.want(a=0, b=0).turn() == [
        Request(ENDPOINTS, "n1", "a: x: bad"),
        Request(ENDPOINTS, subscribe=("b",)),
    ]


# ---- rows 2, 3: one bad resource


@pytest.mark.parametrize("make", [sotw, delta])
def test_row_2_the_good_ones_are_held_and_every_bad_one_is_named(make: type) -> None:
    rig: Rig = make().want(all=0)
    rig.open()
    rig.answer("1", one("a", version="1"))
    [nack] = rig.answer("2", one("a", version="2"), one("b", "bad1"), one("c", version="2"), one("d", "bad2"))
    assert nack.error == "b: x: bad1; d: x: bad2"
    assert sorted(rig.machine.held) == ["a", "c"]
    if isinstance(rig.machine, SotwSubscription):
        assert nack.version == "1"


def test_row_2_a_long_reason_is_cut() -> None:
    rig = sotw().want(all=0)
    rig.open()
    [nack] = rig.answer("1", *(one(str(i), "bad" * 1000) for i in range(100)))
    assert len(nack.error) < 20_000
    assert nack.error.endswith("more")


@pytest.mark.parametrize("make", [sotw, delta])
def test_row_3_a_rejected_resource_is_not_removed(make: type) -> None:
    rig: Rig = make(LISTENER).want(all=0)
    rig.open()
    rig.answer("1", one("a", version="1"))
    rig.answer("2", one("a", "bad", version="2"))
    assert rig.updates[-1].removed == ()
    assert rig.machine.held == {"a": "1"}


# ---- row 4: what a response does not have


@pytest.mark.parametrize(("type_url", "removed"), [(CLUSTER, ("b",)), (LISTENER, ("b",)), (ENDPOINTS, ()), (ROUTES, ())])
def test_row_4_only_clusters_and_listeners_are_removed_by_absence(type_url: str, removed: tuple[str, ...]) -> None:
    rig = sotw(type_url)
    rig = rig.want(all=0) if type_url in (CLUSTER, LISTENER) else rig.want(a=0, b=0)
    rig.open()
    rig.answer("1", one("a"), one("b"))
    rig.answer("2", one("a"))
    assert rig.updates[-1].removed == removed
    assert rig.updates[-1].is_full == bool(removed)


def test_row_4_the_first_response_of_a_stream_is_marked() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.answer("1", one("a"))
    rig.answer("2", one("a"))
    rig.machine.closed()
    rig.open()
    rig.answer("1")
    assert [update.is_first for update in rig.updates] == [True, False, True]
    assert rig.updates[-1].removed == ("a",)


# ---- row 5: versions and nonces


def test_row_5_a_new_stream_has_no_nonce_and_the_last_accepted_version() -> None:
    rig = sotw().want(all=0)
    assert rig.open() == [Request(CLUSTER)]
    assert rig.answer("9", one("a")) == [Request(CLUSTER, "n1", version="9")]
    rig.machine.closed()
    assert rig.open() == [Request(CLUSTER, version="9")]
    assert rig.answer("1", one("a")) == [Request(CLUSTER, "n2", version="1")]


def test_row_5_what_a_dead_stream_has_received_is_applied_but_not_answered() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.receive("1", one("a"))
    assert rig.machine.take(0.0) is not None
    rig.receive("2", one("b"))
    rig.machine.closed()
    rig.machine.opened()
    rig.machine.decided({}, 0.0)
    assert rig.turn() == [Request(CLUSTER, version="2")]
    assert list(rig.machine.held) == ["b"]


def test_row_5_the_version_is_not_repeated_while_something_is_missing() -> None:
    """Else a server that compares versions only would not answer."""
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("1", one("a"))
    rig.machine.closed()
    rig.want(a=0, b=0)
    assert rig.open() == [Request(ENDPOINTS, names=("a", "b"))]
    rig.answer("1", one("a"), one("b"))
    rig.machine.closed()
    assert rig.open() == [Request(ENDPOINTS, version="1", names=("a", "b"))]
    assert rig.want(a=0, b=0, c=0).turn() == [Request(ENDPOINTS, names=("a", "b", "c"))]


def test_names_change_with_the_same_version_and_nonce() -> None:
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("1", one("a"))
    assert rig.want(a=0, b=0).turn() == [Request(ENDPOINTS, "n1", version="1", names=("a", "b"))]
    assert rig.turn() == []


def test_names_do_not_change_between_a_response_and_its_answer() -> None:
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.receive("1", one("a"))
    assert rig.machine.take(0.0) is not None
    rig.want(a=0, b=0)
    assert rig.sent() == []
    rig.machine.decided({}, 0.0)
    assert rig.sent() == [Request(ENDPOINTS, "n1", version="1", names=("a", "b"))]


# ---- row 6: delta, reconnecting


def test_row_6_a_new_stream_declares_the_latest_versions() -> None:
    rig = delta().want(all=0)
    assert rig.open() == [Request(CLUSTER)]
    rig.answer("", one("a", version="1"), one("b", version="1"))
    rig.answer("", one("a", version="2"), one("c", "bad", version="1"))
    rig.machine.closed()
    assert rig.open() == [Request(CLUSTER, versions={"a": "2", "b": "1"})]


def test_row_6_a_server_that_sends_everything_again_is_reconciled() -> None:
    rig = delta().want(all=0)
    rig.open()
    rig.answer("", one("a", version="1"), one("b", version="1"), one("c", version="1"))
    rig.machine.closed()
    rig.open()
    rig.answer("", one("a", version="1"))
    assert rig.updates[-1].removed == ()
    rig.answer("", one("c", version="1"))
    assert rig.machine.take_at() == CONFIRM_TIME
    rig.at(CONFIRM_TIME)
    assert rig.updates[-1].removed == ("b",)
    assert sorted(rig.machine.held) == ["a", "c"]


def test_row_6_a_server_that_sends_only_changes_is_believed() -> None:
    rig = delta().want(all=0)
    rig.open()
    rig.answer("", one("a", version="1"), one("b", version="1"), one("c", version="1"))
    rig.machine.closed()
    rig.open()
    rig.answer("", one("a", version="2"), removed=("c",))
    assert rig.updates[-1].removed == ("c",)
    assert rig.machine.take_at() is None
    assert sorted(rig.machine.held) == ["a", "b"]


def test_a_cache_is_declared_and_unwanted_names_of_it_are_not() -> None:
    rig = delta(ENDPOINTS, {"a": "1", "old": "1"}).want(a=0)
    assert rig.open() == [Request(ENDPOINTS, subscribe=("a",), versions={"a": "1"})]


# ---- rows 7, 8, 30: names


def test_row_7_the_wildcard_has_no_names_at_a_new_stream() -> None:
    rig = delta().want(all=0)
    rig.open()
    rig.answer("", one("a", version="1"))
    rig.machine.closed()
    [request] = rig.open()
    assert request.subscribe == ()
    assert request.versions == {"a": "1"}


def test_row_8_names_are_given_up_in_delta() -> None:
    rig = delta(ENDPOINTS).want(a=0, b=0)
    rig.open()
    rig.answer("", one("a", version="1"), one("b", version="1"))
    assert rig.want(a=0).turn() == [Request(ENDPOINTS, unsubscribe=("b",))]
    rig.want()
    assert rig.turn() == [Request(ENDPOINTS, unsubscribe=("a",))]
    assert rig.machine.held == {}
    rig.machine.closed()
    assert rig.open() == []


def test_row_8_no_name_left_is_not_an_empty_list() -> None:
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("1", one("a"))
    assert rig.want().turn() == []
    assert rig.answer("2", one("a"), one("b")) == []
    assert rig.machine.held == {}
    assert [update.version for update in rig.updates] == ["1"]
    assert rig.want(c=0).turn() == [Request(ENDPOINTS, "n2", version="2", names=("c",))]
    rig.machine.closed()
    rig.want()
    assert rig.open() == []


def test_row_30_an_empty_first_list_is_the_wildcard_and_a_later_one_is_none() -> None:
    rig = sotw(LISTENER).want(all=0)
    assert [request.names for request in rig.open()] == [()]
    rig.answer("1", one("a"), one("b"))
    assert [request.names for request in rig.want(all=0, x=0).turn()] == [("*", "x")]
    assert [request.names for request in rig.want(all=0).turn()] == [("*",)]
    assert [request.names for request in rig.want(x=0).turn()] == [("x",)]
    assert rig.machine.held == {}
    assert [request.names for request in rig.want().turn()] == [()]
    rig.machine.closed()
    rig.want(all=0)
    assert [request.names for request in rig.open()] == [()]


def test_row_30_delta_names_and_wildcard() -> None:
    rig = delta(LISTENER).want(all=0)
    rig.open()
    rig.answer("", one("a", version="1"), one("b", version="1"))
    assert rig.want(all=0, a=0).turn() == [Request(LISTENER, subscribe=("a",))]
    assert rig.want(a=0).turn() == [Request(LISTENER, unsubscribe=("*",))]
    assert rig.machine.held == {"a": "1"}
    rig.machine.closed()
    rig.want(all=0, a=0)
    assert rig.open() == [Request(LISTENER, subscribe=("*", "a"), versions={"a": "1"})]


def test_a_listener_that_was_asked_for_by_name_and_is_not_sent_does_not_exist() -> None:
    rig = sotw(LISTENER).want(a=9, b=9)
    rig.open()
    rig.answer("1", one("a"))
    assert rig.updates[-1].absent == ("b",)
    assert rig.machine.take_at() is None


def test_what_is_given_up_and_wanted_again_is_asked_for_again() -> None:
    rig = sotw(ENDPOINTS).want(a=0, b=0)
    rig.open()
    rig.answer("1", one("a"), one("b"))
    rig.want(a=0)
    assert [request.names for request in rig.want(a=0, b=0).turn()] == [("a",), ("a", "b")]
    rig.want()
    assert rig.want(a=0, b=0).turn() == [Request(ENDPOINTS, "n1", names=("a", "b"))]
    other = delta(ENDPOINTS).want(a=0, b=0)
    other.open()
    other.answer("", one("a", version="1"), one("b", version="1"))
    other.want(a=0)
    assert other.want(a=0, b=0).turn() == [
        Request(ENDPOINTS, unsubscribe=("b",)),
        Request(ENDPOINTS, subscribe=("b",)),
    ]
    assert other.want(a=0, b=0, c=0).want(a=0, b=0).turn() == []


@pytest.mark.parametrize("make", [sotw, delta])
def test_resources_that_were_not_asked_for_are_ignored(make: type) -> None:
    rig: Rig = make(ENDPOINTS).want(a=0)
    rig.open()
    [ack] = rig.answer("1", one("a", version="1"), one("b", "bad"))
    assert not ack.error
    assert rig.machine.held.keys() == {"a"}
    assert rig.machine.status(0.0).ignored == 1


# ---- initial_fetch_timeout


@pytest.mark.parametrize("make", [sotw, delta])
def test_row_13_each_name_has_its_own_time_limit(make: type) -> None:
    rig: Rig = make(ENDPOINTS).want(a=15, b=2, c=0)
    rig.open()
    assert rig.machine.take_at() == 2
    rig.at(1.0)
    rig.answer("1", one("a", version="1"))
    rig.at(2.0)
    assert rig.updates[-1].absent == ("b",)
    assert rig.machine.take_at() is None, "0 waits for ever"
    assert rig.machine.status(2.0).waiting == ("c",)
    assert rig.machine.status(2.0).fetch_timeouts == 1
    rig.answer("2", one("a", version="2"), one("b", version="2"))
    assert {"a", "b"} == rig.machine.held.keys()


def test_row_13_the_time_limit_of_a_wildcard_ends_with_any_response() -> None:
    rig = sotw().want(all=15)
    assert rig.machine.take_at() == 15
    rig.open()
    rig.answer("1")
    assert rig.machine.take_at() is None
    late = sotw().want(all=15)
    late.at(15.0)
    assert late.updates[-1].absent == ("*",), "also without a connection"


def test_row_13_delta_says_at_once_that_a_name_does_not_exist() -> None:
    rig = delta(ENDPOINTS).want(a=15)
    rig.open()
    rig.answer("", removed=("a",))
    assert rig.updates[-1].absent == ("a",)
    assert rig.machine.take_at() is None


# ---- row 24: time to live


def test_row_24_a_resource_expires_and_is_asked_for_with_an_empty_version() -> None:
    rig = sotw(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("1", one("a", ttl=2.0))
    rig.at(1.5)
    rig.answer("1", beat("a", 2.0))
    assert len(rig.updates) == 1, "a heartbeat changes nothing"
    assert rig.at(3.4) == []
    assert rig.at(3.5) == [Request(ENDPOINTS, "n2", names=("a",))]
    assert rig.updates[-1].removed == ("a",)
    assert rig.machine.status(3.5).expired == 1


def test_row_24_without_a_control_plane_too() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.answer("1", one("a", ttl=2.0), one("b"))
    rig.machine.closed()
    rig.at(2.0)
    assert rig.updates[-1].removed == ("a",)
    assert rig.open() == [Request(CLUSTER)], "with the version, a server might not send it again"


def test_row_24_delta_asks_again_by_name() -> None:
    rig = delta(ENDPOINTS).want(a=0)
    rig.open()
    rig.answer("", one("a", version="1", ttl=2.0))
    assert rig.at(2.0) == [Request(ENDPOINTS, subscribe=("a",))]


def test_row_24_heartbeats_of_some_resources_do_not_remove_the_others() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.answer("1", one("a", ttl=2.0), one("b"))
    rig.answer("1", beat("a", 2.0))
    assert rig.machine.held.keys() == {"a", "b"}
    rig.answer("2", beat("a", 2.0), one("c"))
    assert rig.updates[-1].unchanged == ("a",)
    assert rig.updates[-1].removed == ("b",)


def test_row_24_a_resource_without_ttl_no_longer_expires() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.answer("1", one("a", ttl=2.0))
    rig.answer("2", one("a"))
    assert rig.machine.take_at() is None


# ---- row 25: twice the same name


@pytest.mark.parametrize("make", [sotw, delta])
def test_row_25_a_name_twice_changes_nothing_of_this_name(make: type) -> None:
    rig: Rig = make().want(all=0)
    rig.open()
    rig.answer("1", one("a", version="1"))
    [nack] = rig.answer("2", one("a", "y"), one("b", version="2"), one("a", "z"), one("a", "y"))
    assert nack.error.startswith("a: more than one resource of this name")
    assert [resource.name for resource in rig.updates[-1].resources] == ["b"]
    assert rig.updates[-1].faults.keys() == {"a"}
    assert rig.updates[-1].removed == ()
    assert rig.machine.held["a"] == "1"


def test_a_resource_without_a_name_means_that_nothing_is_missing() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.answer("1", one("a"))
    [nack] = rig.answer("2", Entry("", "", None, fault="invalid"), one("b"))
    assert nack.error == "resources[0]: invalid"
    assert rig.updates[-1].removed == ()
    assert not rig.updates[-1].is_full


# ---- coalescing


def test_row_27_the_newest_of_the_responses_that_wait_is_applied_and_answered() -> None:
    rig = sotw().want(all=0)
    rig.open()
    for version in "123":
        rig.receive(version, one(f"c{version}"))
    assert rig.turn() == [Request(CLUSTER, "n3", version="3")]
    assert [[one.name for one in update.resources] for update in rig.updates] == [["c3"]]
    assert rig.machine.status(0.0).coalesced == 2


def test_row_27_parts_are_merged() -> None:
    rig = sotw(ENDPOINTS).want(a=0, b=0)
    rig.open()
    rig.receive("1", one("a", "old"), one("b", "old"))
    rig.receive("2", one("a", "new"))
    rig.turn()
    assert {one.name: one.body for one in rig.updates[0].resources} == {"a": b"new", "b": b"old"}
    other = delta().want(all=0)
    other.open()
    other.receive("", one("a"), one("b"), one("c", "bad"))
    other.receive("", one("d"), removed=("b",))
    other.receive("", one("b", "again"), removed=("a",))
    [nack] = other.turn()
    assert (nack.nonce, nack.error) == ("n3", "c: x: bad")
    assert {one.name for one in other.updates[0].resources} == {"b", "c", "d"}
    assert other.updates[0].removed == ()


def test_a_fault_of_an_overtaken_response_is_in_the_next_answer() -> None:
    rig = delta().want(all=0)
    rig.open()
    rig.receive("", one("a", "bad"))
    assert rig.machine.take(0.0) is not None
    rig.receive("", one("b"))
    rig.machine.decided({"a": "x: bad"}, 0.0)
    [nack] = rig.turn()
    assert (nack.nonce, nack.error) == ("n2", "a: x: bad")
    [ack] = rig.answer("", one("c"))
    assert not ack.error, "it was reported once"


def test_a_heartbeat_keeps_content_that_waits() -> None:
    rig = sotw().want(all=0)
    rig.open()
    rig.receive("1", one("a", ttl=1.0), one("b"))
    rig.receive("1", beat("a", 5.0))
    rig.turn()
    assert {resource.name: resource.ttl for resource in rig.updates[0].resources} == {"a": 5.0, "b": None}


# ---- row 11: reconnecting


def test_row_11_back_off_with_full_jitter() -> None:
    longest = Backoff(lambda: 1.0)
    assert [longest.next() for _ in range(9)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    longest.reset()
    assert [longest.next(is_failure=False) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert Backoff(lambda: 0.0).next() == 0.0
    half = Backoff(lambda: 0.5)
    assert [half.next() for _ in range(3)] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("make", [sotw, delta])
def test_what_turns_out_to_be_unusable_is_rejected_with_the_last_nonce_or_the_next_answer(make: Callable[[], Rig]) -> None:
    rig = make().want(all=0.0)
    rig.open()
    assert not rig.machine.reject_late({"a": "early"}, 0.0)  # no response yet
    (ack,) = rig.answer("1", one("a"), one("b"))
    assert ack.error == ""
    assert rig.machine.reject_late({"a": "cannot be activated: port in use"}, rig.now)
    (nack,) = rig.turn()
    assert (nack.nonce, nack.error) == (ack.nonce, "a: cannot be activated: port in use")
    assert rig.turn() == []  # once
    rig.receive("2", one("b", "y"))
    assert rig.machine.reject_late({"a": "still"}, rig.now)
    (answer,) = rig.turn()
    assert answer.nonce == rig.machine.nonce
    assert answer.error == ("a: still" if make is delta else "")  # a full response without it has removed it
    assert not sotw(ENDPOINTS).machine.reject_late({"a": "not subscribed"}, 0.0)
