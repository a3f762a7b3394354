"""Every event that can break an exchange, at every point of it: one right outcome each.

The tables below are the expectation: a row is what had been sent of the request and received of the reply, a column the
event, a cell the outcome. Each is run whole and one byte at a time. Bytes are compared exactly on both sides, and after
each one another client shows whether the upstream connection is reused: only where its state is certain.

    on      nothing breaks: the rest of request and reply arrive, and both connections stay open
    last    the same, and the client's connection ends after it
    again   the request is sent once more on a fresh connection, and the client does not notice
    whole   the event is the end of the reply: it is complete
    whole!  the same, and the client's connection ends after it
    502     a local reply with that status; the client's connection stays open
    502!    the same, and the client's connection ends after it
    cut     the reply is aborted by a reset, so that it cannot be taken for complete; the upstream's side too
    gone    the client has left: nothing is sent, the upstream connection is reset
    kept    the client has left before anything was sent to the upstream: the connection is there for the next request
    over    the exchange was over already: nothing is sent, and the client's connection ends
    idle    the exchange was over already: nothing is sent, and the client's connection stays open
    shut    there is no exchange: the client's connection ends
    -       cannot happen, or breaks nothing: any bytes are a body
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from tests.kit import DATE, GET, Dial, Peer, Start, Talk, forward
from tests.kit.options import http_limits, http_options

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.api.routing import Route
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.routing.actions import DirectResponse
from pymosn.routing.matchers import AnyRequest

TABLE = """
request           reply             client: resets  shuts  and waits   upstream: resets  shuts  nonsense   time   drain

nothing           nothing                   shut    shut   -                     -       -      -          shut   shut
part of the head  nothing                   gone    400!   -                     -       -      -          408!   last
head              dialing                   kept    400!   -                     502!    -      -          -      last
head              nothing                   gone    400!   -                     502!    502!   502!       408!   last
head              a hint                    gone    400!   -                     502!    502!   502!       408!   last
head              part of the head          gone    400!   -                     502!    502!   502!       408!   last
head              head                      gone    cut    -                     cut     cut    -          cut    last
head              part of the body          gone    cut    -                     cut     cut    -          cut    last
head              a chunk                   gone    cut    -                     cut     cut    cut        cut    last
head              until close               gone    cut    -                     cut     whole! -          cut    last
head              all                       over    over   -                     over    over   over       over   over
part of the body  dialing                   kept    400!   -                     502!    -      -          -      last
part of the body  nothing                   gone    400!   -                     502!    502!   502!       408!   last
part of the body  a hint                    gone    400!   -                     502!    502!   502!       408!   last
part of the body  part of the head          gone    400!   -                     502!    502!   502!       408!   last
part of the body  head                      gone    cut    -                     cut     cut    -          cut    last
part of the body  part of the body          gone    cut    -                     cut     cut    -          cut    last
part of the body  a chunk                   gone    cut    -                     cut     cut    cut        cut    last
part of the body  until close               gone    cut    -                     cut     whole! -          cut    last
part of the body  all                       over    over   -                     over    over   over       over   over
all               dialing                   kept    last   kept                  502     -      -          504    last
all               nothing                   gone    last   gone                  502     502    502        504    last
all               a hint                    gone    last   gone                  502     502    502        504    last
all               part of the head          gone    last   gone                  502     502    502        504    last
all               head                      gone    last   last                  cut     cut    -          cut    on
all               part of the body          gone    last   last                  cut     cut    -          cut    on
all               a chunk                   gone    last   last                  cut     cut    cut        cut    on
all               until close               gone    last   last                  cut     whole  -          cut    on
all               all                       over    over   -                     idle    idle   idle       over   over
a GET             dialing                   kept    last   kept                  502     -      -          504    last
a GET             nothing                   gone    last   gone                  502     502    502        504    last
a second GET      nothing                   gone    last   gone                  again   again  502        504    last
a second GET      a hint                    gone    last   gone                  502     502    502        504    last
a second GET      part of the head          gone    last   gone                  502     502    502        504    last
a second GET      head                      gone    last   last                  cut     cut    -          cut    on
a second POST     nothing                   gone    last   gone                  502     502    502        504    last
"""

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\nhi"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

#: What the client has sent, and what it has still to send.
REQUESTS = {
    "nothing": (b"", HEAD + b"ping"),
    "part of the head": (HEAD[:20], HEAD[20:] + b"ping"),
    "head": (HEAD, b"ping"),
    "part of the body": (HEAD + b"pi", b"ng"),
    "all": (HEAD + b"ping", b""),
    "a GET": (GET, b""),
    "a second GET": (GET, b""),
    "a second POST": (HEAD + b"ping", b""),
}

STATUS = b"HTTP/1.1 200 OK\r\nDate: d\r\n"
SIZED = STATUS + b"Content-Length: 4\r\n"
CODED = STATUS + b"Transfer-Encoding: chunked\r\n"
CODED_ON = STATUS + b"transfer-encoding: chunked\r\n"

#: What the upstream has sent, what of it the client has, what is still to come, and as what the client gets that. `~` is
#: where the proxy says, if so, that the connection ends.
REPLIES = {
    "dialing": (b"", b"", SIZED + b"\r\npong", SIZED + b"~\r\npong"),
    "nothing": (b"", b"", SIZED + b"\r\npong", SIZED + b"~\r\npong"),
    "a hint": (HINT, HINT, SIZED + b"\r\npong", SIZED + b"~\r\npong"),
    "part of the head": (HINT + SIZED[:30], HINT, SIZED[30:] + b"\r\npong", SIZED + b"~\r\npong"),
    "head": (SIZED + b"\r\n", SIZED + b"~\r\n", b"pong", b"pong"),
    "part of the body": (SIZED + b"\r\npo", SIZED + b"~\r\npo", b"ng", b"ng"),
    "a chunk": (
        CODED + b"\r\n2\r\npo\r\n",
        CODED_ON + b"~\r\n2\r\npo\r\n",
        b"2\r\nng\r\n0\r\n\r\n",
        b"2\r\nng\r\n0\r\n\r\n",
    ),
    "until close": (STATUS + b"\r\npo", CODED_ON + b"~\r\n2\r\npo\r\n", b"", b"0\r\n\r\n"),
    "all": (SIZED + b"\r\npong", SIZED + b"~\r\npong", b"", b""),
}

CLOSE = b"connection: close\r\n"
PHRASES = {
    "400": b"400 Bad Request",
    "403": b"403 Forbidden",
    "408": b"408 Request Timeout",
    "413": b"413 Request Entity Too Large",
    "502": b"502 Bad Gateway",
    "504": b"504 Gateway Timeout",
}


def own_reply(word: str) -> bytes:
    """The reply that a cell such as `502!` means."""
    phrase = PHRASES[word[:3]]
    fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % (len(phrase) + 1)
    return (
        b"HTTP/1.1 " + phrase + b"\r\n" + fields + DATE + (CLOSE if word.endswith("!") else b"") + b"\r\n" + phrase + b"\n"
    )


class Scene:
    """A conversation that has come to some point."""

    def __init__(self, talk: Talk, request: str, reply: str, is_held: bool = False) -> None:
        """`is_held`: nothing of the reply is forwarded to the client yet."""
        self.talk = talk
        self.reply = reply
        self.sent, self.unsent = REQUESTS[request]
        came, relayed, self.to_come, self.to_relay = REPLIES[reply]
        self.client = talk.connect()
        self.upstream: Peer | None = None
        self.dial: Dial | None = None
        if "second" in request:
            self.client.sends(GET)
            self.upstream = talk.expect_dial()
            self.upstream.receives(GET)
            self.upstream.sends(OK)
            self.client.receives(OK)
        self.before = len(talk.reasons())
        self.is_over = reply == "all" and not is_held
        if reply == "dialing":
            self.client.sends_whole(self.sent)  # byte by byte the client would be paused at the first one of its body
        else:
            self.client.sends(self.sent)
        self.has_begun = b"Date" in came and reply != "part of the head" and not is_held
        if reply == "dialing":
            self.dial = talk.hold_dial()
        elif b"\r\n\r\n" in self.sent:
            self.upstream = self.upstream or talk.expect_dial()
            self.upstream.receives(self.sent)
            self.upstream.sends(came)
        self.client.receives(b"" if is_held else relayed.replace(b"~", CLOSE if self.unsent else b""))

    # ---- what happens

    def client_resets(self) -> None:
        self.client.resets()

    def client_shuts(self) -> None:
        self.client.shuts()

    def client_shuts_and_waits(self) -> None:
        self.client.shuts()
        self.talk.advance(1.1)

    def upstream_resets(self) -> None:
        if self.dial is not None:
            self.dial.fails(CONNECT_REFUSED)
            self.dial = None
        else:
            self.up().resets()

    def upstream_shuts(self) -> None:
        self.up().shuts()

    def nonsense(self) -> None:
        self.up().sends_whole(b"\x00\r\n\r\n\x00")

    def time(self) -> None:
        is_between = self.is_over or not self.sent
        self.talk.advance(91 if is_between else 301 if self.has_begun else 61)

    def drain(self) -> None:
        self.talk.drain()
        self.talk.advance(1.1)

    # ---- how it continues

    def up(self) -> Peer:
        assert self.upstream is not None
        return self.upstream

    def finish(self, is_last: bool) -> None:
        """Nothing broke: both peers send what is left."""
        self.client.sends(self.unsent)
        if self.upstream is None:
            self.upstream = self.talk.expect_dial() if self.dial is None else self.dial.connects()
            self.dial = None
            self.upstream.receives(self.sent + self.unsent)
        else:
            self.upstream.receives(self.unsent)
        self.upstream.sends_whole(self.to_come)
        if self.reply == "until close":
            self.upstream.shuts()
        self.client.receives(self.to_relay.replace(b"~", CLOSE if is_last else b""))


EVENTS: list[Callable[[Scene], None]] = [
    Scene.client_resets,
    Scene.client_shuts,
    Scene.client_shuts_and_waits,
    Scene.upstream_resets,
    Scene.upstream_shuts,
    Scene.nonsense,
    Scene.time,
    Scene.drain,
]


def cells() -> Iterator[tuple[str, str, Callable[[Scene], None], str]]:
    for line in TABLE.strip().splitlines()[2:]:
        request, reply, words = line[:18].strip(), line[18:44].strip(), line[44:].split()
        assert len(words) == len(EVENTS), line
        for event, word in zip(EVENTS, words, strict=True):
            if word != "-":
                yield request, reply, event, word


def case_id(value: object) -> str:
    return value.__name__ if callable(value) else str(value)


def reason(scene: Scene, event: Callable[[Scene], None], word: str) -> str:
    """The word in the log."""
    if word.startswith(("502", "cut")) and event is Scene.upstream_resets and scene.reply == "dialing":
        return "connect_refused"
    if event is Scene.nonsense and word in ("502", "502!", "cut"):
        return "bad_response"
    if word == "cut":
        late = "request_timeout" if scene.unsent else "stream_idle_timeout"
        return {Scene.client_shuts: "truncated_body", Scene.time: late}.get(event, "reset_after_response")
    if word == "400!" and b"\r\n\r\n" not in scene.sent:
        return "truncated_head"
    own = {
        "400!": "truncated_body",
        "408!": "request_timeout",
        "504": "timeout",
        "gone": "client_gone",
        "kept": "client_gone",
    }
    return own.get(word, "reset_before_response" if word.startswith("502") else "ok")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("request_sent", "reply", "event", "word"), list(cells()), ids=case_id)
def test_edge(start: Start, request_sent: str, reply: str, event: Callable[[Scene], None], word: str) -> None:
    talk = start()
    scene = Scene(talk, request_sent, reply)
    event(scene)
    client = scene.client
    if word in ("on", "last"):
        scene.finish(word == "last")
    elif word == "again":
        scene.upstream = talk.expect_dial()
        scene.upstream.receives(scene.sent)
        scene.finish(False)
    elif word.startswith("whole"):
        client.receives(scene.to_relay)
    elif word[:3].isdigit():
        client.receives(own_reply(word))
    client.receives_nothing()
    check_client(scene, word)
    found = talk.reasons()[scene.before :]
    assert found == ([] if word == "shut" else [reason(scene, event, word)])
    assert "request_active" not in talk.counters()
    check_upstream(scene, event, word)


def check_client(scene: Scene, word: str) -> None:
    client = scene.client
    if word == "cut":
        assert client.is_lingering() or client.is_closed(), "its length or its chunks say that the reply is cut off"
    elif word == "gone":
        assert client.is_reset() or client.transport.is_lost
    elif word in ("502", "504", "whole", "idle", "again"):
        assert client.is_open()
        client.receives_nothing()
    elif word == "on":
        scene.talk.advance(1.1)  # only a drain ends it, after its grace
        assert client.is_open() or scene.talk.listener.is_draining
    elif word == "kept":
        assert client.transport.is_lost
    else:
        assert not client.is_open()
        assert not client.is_reset()


def check_upstream(scene: Scene, event: Callable[[Scene], None], word: str) -> None:
    """The connection serves another client, if nothing of it is in doubt, or is gone."""
    talk = scene.talk
    is_unused = scene.dial is not None
    if scene.dial is not None:
        scene.upstream = scene.dial.connects()
    upstream = scene.upstream
    is_free = word in ("on", "last", "again") and scene.reply != "until close"
    is_free = is_free or is_unused or (word == "over" and not scene.unsent and event is not Scene.time)
    other = talk.connect()
    other.sends(GET)
    if upstream is not None and is_free:
        upstream.receives(GET)
        return
    fresh = talk.expect_dial()
    fresh.receives(GET)
    if upstream is not None:
        assert upstream.transport.is_closing
        upstream.receives_nothing()
        if word in ("gone", "cut", "400!", "408!", "504") and event in (Scene.client_resets, Scene.client_shuts, Scene.time):
            assert upstream.is_reset(), "else it may take what it has for a whole request"
    fresh.sends(OK)
    other.receives(OK.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n") if talk.listener.is_draining else OK)


def test_every_row_and_column_is_there() -> None:
    rows = [(request, reply) for request, reply, _, _ in cells()]
    for request in ("head", "part of the body", "all"):
        assert {reply for sent, reply in rows if sent == request} == set(REPLIES)
    assert len(list(cells())) > 220


# ---- replies of our own, while the client may still be sending

OWN_TABLE = """
answered by         head   part of the body   all    chunked

filter              403!   403!               403    403!
slow filter         403!   403!               403    403!
route               403!   403!               403    403!
response filter     403!   403!               403    403!
"""
# Chunked: part of the body has come, and what is missing of it is not even known in length.

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"
REQUESTS["chunked"] = (CHUNKED + b"4\r\nping\r\n", b"0\r\n\r\n")
#: Bodies that look like messages to a decoder that has lost count.
EVIL = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"


class Refuses(StreamFilter):
    """Refuses everything, at once or when the test opens the gate."""

    def __init__(self, phase: str) -> None:
        super().__init__({})
        self.phase = phase

    def on_request(self, exchange: Exchange) -> Reply | None:
        return self.answer() if self.phase == "filter" else None

    def on_response(self, exchange: Exchange) -> Reply | None:
        return self.answer() if self.phase == "response filter" else None

    def answer(self) -> Reply:
        return Reply(403, "403 Forbidden\n", {"content-type": "text/plain; charset=utf-8"})


class RefusesLater(Refuses):
    """The same from an `async` method."""

    async def on_request(self, exchange: Exchange) -> Reply | None:  # type: ignore[override]
        return self.answer()


def own_cells() -> Iterator[tuple[str, str, str]]:
    lines = OWN_TABLE.strip().splitlines()
    for line in lines[2:]:
        words = line[20:].split()
        for request, word in zip(("head", "part of the body", "all", "chunked"), words, strict=True):
            yield line[:20].strip(), request, word


@pytest.mark.parametrize(("answered_by", "request_sent", "word"), list(own_cells()))
def test_reply_of_our_own(start: Start, answered_by: str, request_sent: str, word: str) -> None:
    """The rest of the client's body is never taken for a request; on a connection that stays open, the next are one."""
    routes = [Route("no", AnyRequest(), DirectResponse(403, "403 Forbidden\n"))] if answered_by == "route" else forward()
    refuses = RefusesLater(answered_by) if answered_by == "slow filter" else Refuses(answered_by)
    talk = start(routes=routes, filters={} if answered_by == "route" else {"refuses": refuses})
    client = talk.connect()
    sent, _ = REQUESTS[request_sent]
    client.sends_whole(sent)
    upstream = None
    if answered_by == "response filter":
        upstream = talk.expect_dial()
        upstream.receives(sent)
        upstream.sends(SIZED + b"\r\n")
    client.receives(own_reply(word))
    talk.expect_no_dial()
    if upstream is not None:
        assert upstream.is_reset()
    if word.endswith("!"):
        assert client.is_lingering()
        client.sends(EVIL * 3)
        client.receives_nothing()
        talk.expect_no_dial()
        talk.advance(5.1)
        assert client.is_closed()
    else:
        assert client.is_open()
        client.sends(EVIL)
        if upstream is not None:
            second = talk.expect_dial()
            second.receives(EVIL)
            second.sends(OK)
        client.receives(own_reply("403"))
    assert talk.counters()["request_total"] == (1 if word.endswith("!") else 2)


@pytest.mark.parametrize("status", [b"413 Request Entity Too Large", b"401 Unauthorized", b"417 Expectation Failed"])
@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
def test_upstream_that_refuses_a_body_early(start: Start, status: bytes, expects: bytes) -> None:
    """E5, D1: its reply is passed on, the upload is read and forgotten for a while, its connection is not used again."""
    talk = start()
    client = talk.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\n" + expects + b"Content-Length: 1000\r\n\r\n"
    client.sends(head)
    upstream = talk.expect_dial()
    upstream.receives(head)
    upstream.sends(b"HTTP/1.1 " + status + b"\r\nDate: d\r\nContent-Length: 2\r\n\r\nno")
    client.receives(b"HTTP/1.1 " + status + b"\r\nDate: d\r\nContent-Length: 2\r\n" + CLOSE + b"\r\nno")
    assert upstream.is_closed()
    assert client.is_lingering()
    client.sends(EVIL * 5)
    upstream.receives_nothing()
    talk.expect_no_dial()
    client.shuts()
    assert client.is_closed()
    assert talk.reasons() == ["ok"]


@pytest.mark.parametrize("request_sent", ["head", "part of the body"])
def test_body_that_is_too_large(start: Start, request_sent: str) -> None:
    talk = start(http1=http_options(limits=http_limits(body=3)))
    client = talk.connect()
    client.sends(REQUESTS[request_sent][0])
    client.receives(own_reply("413!"))
    talk.expect_no_dial()
    assert talk.reasons() == ["body_too_large"]


# ---- while a filter thinks about the head of the reply

THINKING_TABLE = """
reply so far       client: resets  shuts   upstream: resets  shuts   time

head                       gone    gone              502     502     504
part of the body           gone    gone              502     502     504
a chunk                    gone    gone              502     502     504
until close                gone    gone              502     on      504
all                        gone    gone              on      on      504
"""
# `shuts` is with the second that a client has which may be gone.


class Thinks(StreamFilter):
    """Holds the head of the reply until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__({})
        self.gate: asyncio.Future[None] | None = None

    async def on_response(self, exchange: Exchange) -> None:  # type: ignore[override]
        if exchange.failure is None and self.gate is None:
            self.gate = asyncio.get_running_loop().create_future()
            await self.gate


def thinking_cells() -> Iterator[tuple[str, Callable[[Scene], None], str]]:
    events = [
        Scene.client_resets,
        Scene.client_shuts_and_waits,
        Scene.upstream_resets,
        Scene.upstream_shuts,
        Scene.time,
    ]
    for line in THINKING_TABLE.strip().splitlines()[2:]:
        for event, word in zip(events, line[19:].split(), strict=True):
            yield line[:19].strip(), event, word


@pytest.mark.whole_only
@pytest.mark.parametrize(("reply", "event", "word"), list(thinking_cells()), ids=case_id)
def test_edge_while_a_filter_thinks(start: Start, reply: str, event: Callable[[Scene], None], word: str) -> None:
    """Nothing of the reply has been sent yet, so what breaks it gets an answer."""
    thinks = Thinks()
    talk = start(filters={"thinks": thinks})
    scene = Scene(talk, "all", reply, is_held=True)
    gate = thinks.gate
    assert gate is not None
    event(scene)
    if word == "on":
        talk.do(lambda: gate.set_result(None))
        whole = STATUS + b"content-length: 2\r\n\r\npo"  # it is complete, so its length is known
        scene.client.receives(whole if reply == "until close" else SIZED + b"\r\npong")
    else:
        assert gate.cancelled()
        if word[:3].isdigit():
            scene.client.receives(own_reply(word))
    assert scene.client.is_open() == (word != "gone")
    scene.client.receives_nothing()
    found = {"gone": "client_gone", "502": "reset_after_response", "504": "timeout", "on": "ok"}[word]
    assert talk.reasons() == [found]
