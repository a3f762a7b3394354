"""Rules for headers of RPC messages that cannot be read, or have several values: they fail closed, where one looks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from tests.kit import Start, Talk, forward
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.unit.protocol.test_dubbothrift_codec import frame as thrift_frame
from tests.unit.protocol.test_dubbothrift_codec import message as thrift_message
from tests.unit.protocol.test_tars_codec import pair
from tests.unit.protocol.test_tars_codec import request as tars_request

from pymosn.api import Exchange, Reply, StreamFilter, UnreadableHeaders
from pymosn.api.routing import Route
from pymosn.core.counters import Metrics
from pymosn.observe.access_log import compile_format
from pymosn.protocol.dubbo.java_text import write_text
from pymosn.proxy.stream_filters import FilterHandle
from pymosn.routing.actions import Forward, ForwardByHeader, ForwardOptions
from pymosn.routing.changes import ChangeLevel, HeaderAddition, LevelChanges
from pymosn.routing.hashing import HashHeader
from pymosn.routing.matchers import AnyRequest, Header, Method, RouteMatcher, Service, Variables, VariableTest
from pymosn.routing.rewrites import RequestChanges
from pymosn.upstream.plan import BalancingPlan

pytestmark = pytest.mark.sampled(3)

FRONT = b"\x052.0.2\x01SN\x01m"
OBJECT = b"\x12Ljava/lang/Object;"
ROLE = b"\x04role\x05admin"
TEXT = "400|headers or attachments cannot be read, are ambiguous, or cannot be changed"


BAD_REQUEST = dubbo.frame(2, 40, write_text(TEXT.encode()))


def hessian(tail: bytes) -> bytes:
    return dubbo.frame(0xC2, 0, FRONT + tail)


#: Calls whose attachments contain `role: admin` for Java, and that the proxy cannot read.
UNREADABLE = {
    "too many": hessian(b"\x00H" + b"".join(b"\x05%05d\x91" % n for n in range(4099)) + ROLE + b"Z"),
    "a map that is an object": hessian(b"\x00C\x11java.util.HashMap\x91\x04role\x60\x05admin"),
    "a map that is a reference": hessian(OBJECT + b"H" + ROLE + b"ZQ\x90"),
    "a class before the map": hessian(b"\x00C\x01q\x90H" + ROLE + b"Z"),
    "a name that is no text": hessian(b"\x00HC\x01q\x90" + ROLE + b"Z"),
    "an argument of negative length": hessian(OBJECT + b"X\x8fH" + ROLE + b"Z"),
    "parameters that are no descriptor": hessian(b"\x02IxH" + ROLE + b"Z"),
    "a descriptor that hides parameters": hessian(b"\x05L II;\x91\x91H" + ROLE + b"Z"),
    "kryo": dubbo.frame(0xC8, 0, b"\x01" + ROLE),
    "native Java": dubbo.frame(0xC3, 0, b"\xac\xed\x00\x05" + ROLE),
    "fastjson2 with symbols": dubbo.frame(
        0xD7,
        0,
        b"".join(
            struct.pack(">I", len(part)) + part
            for part in (b"\x4e2.0.2", b"\x4aS", b"\xaf", b"\x4am", b"\x49", b"\xa6\x7f\x4drole\x00\x4eadmin\xa5")
        ),
    ),
    "fastjson with single quotes": dubbo.frame(0xC6, 0, b'"2.0.2"\n"S"\nnull\n"m"\n""\n{\'role\':\'admin\'}\n'),
    "one way": hessian(b"\x00C\x01q\x90H" + ROLE + b"Z").replace(b"\xda\xbb\xc2", b"\xda\xbb\x82"),
}

#: Calls that are `admin` for Java, and something else for whoever takes the first value, by protocol.
AMBIGUOUS = {
    "dubbo": ("dubbo", hessian(b"\x00H\x04role\x05guest" + ROLE + b"Z")),
    "dubbo, not plain": ("dubbo", hessian(b"\x00M\x01t\x04role\x05guest" + ROLE + b"Z")),
    "dubbo, null": ("dubbo", hessian(b"\x00H\x04roleN" + ROLE + b"Z")),
    "dubbo, another case": ("dubbo", hessian(b"\x00H\x04Role\x05guest" + ROLE + b"Z")),
    "dubbo, overlong": ("dubbo", hessian(b"\x00H\x04role\x05guest\x04\xc1\xb2ole\x05adminZ")),
    "dubbo, an object": ("dubbo", hessian(b"\x00H\x04role\x79\x05adminZ")),
    "bolt": ("bolt", bolt.request(1, headers={"role": "guest", "Role": "admin"})),
    "bolt, null": ("bolt", bolt.request(1, headers={"role": None, "ROLE": "admin"})),
    "boltv2": ("boltv2", bolt.request(1, headers={"role": "guest", "Role": "admin"}, v2=True, crc=True)),
    "tars": ("tars", tars_request(tail=b"\x98\x00\x02" + pair(b"role", b"guest") + pair(b"role", b"admin") + b"\xa8\x0c")),
}


def lasting(raw: bytes, request_id: int) -> bytes:
    """A Dubbo frame with that id."""
    return raw[:4] + struct.pack(">q", request_id) + raw[12:]


class Denies(StreamFilter):
    """Rejects `role: admin`, as a filter written in Python does."""

    on_error: ClassVar[str] = "skip"

    def on_request(self, exchange: Exchange) -> Reply | None:
        return Reply(403) if exchange.request.headers.get("role") == "admin" else None


class DeniesLater(Denies):
    """The same in a later phase, and waiting."""

    def on_request(self, exchange: Exchange) -> None:
        return None

    async def on_route(self, exchange: Exchange) -> Reply | None:
        return Reply(403) if "admin" in dict(exchange.request.headers.items()).values() else None


class Removes(StreamFilter):
    on_error: ClassVar[str] = "skip"

    def on_host(self, exchange: Exchange) -> None:
        exchange.request.headers.remove("role")


def changing(additions: list[HeaderAddition], removals: list[str]) -> list[Route]:
    changes = RequestChanges(LevelChanges([ChangeLevel(additions, removals)]))
    return [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(changes=changes)))]


def when(matcher: RouteMatcher) -> list[Route]:
    return [Route("other", matcher, Forward("other", 60.0)), *forward()]


#: All that judges or changes the header `role`.
JUDGES: dict[str, Callable[[], dict[str, Any]]] = {
    "a filter that skips errors": lambda: {"filters": {"denies": Denies({})}},
    "a filter after one that does not look": lambda: {"filters": {"idle": StreamFilter({}), "denies": DeniesLater({})}},
    "a filter that removes": lambda: {"filters": {"removes": Removes({})}},
    "a route": lambda: {"routes": when(Header("role", "admin"))},
    "a route by expression": lambda: {"routes": when(Header("role", "^guest$", True))},
    "a route by variable": lambda: {"routes": when(Variables([VariableTest("request_header_role", "x", False, False)]))},
    "a cluster named by a header": lambda: {"routes": [Route("all", AnyRequest(), ForwardByHeader("role", 60.0))]},
    "an added variable": lambda: {"routes": changing([HeaderAddition("x", "%request_header_role%", False)], [])},
    "an appended header": lambda: {"routes": changing([HeaderAddition("role", "x", True)], [])},
    "a balancer": lambda: {
        "routes": [Route("", AnyRequest(), Forward("service", 60.0, ForwardOptions(hash_policies=[HashHeader("role")])))],
        "plan": {"balancing": BalancingPlan("LB_MAGLEV")},
    },
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_where_something_looks(
    start: Start, raw: bytes, judge: Callable[[], dict[str, Any]]
) -> None:
    talk = start(**{"protocols": ["dubbo"], **judge()})
    client = talk.connect()
    client.sends(raw)
    connects(talk)
    if raw[2] & 0x40:
        client.receives(BAD_REQUEST)
    else:
        client.receives_nothing()
    refused(talk)


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize(("protocol", "raw"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_several_values_are_refused_where_something_looks(
    start: Start, protocol: str, raw: bytes, judge: Callable[[], dict[str, Any]]
) -> None:
    options = judge()
    if "removes" in options.get("filters", {}):
        pytest.skip("removing all values needs no judgement")
    talk = start(**{"protocols": [protocol], **options})
    client = talk.connect()
    client.sends(raw)
    connects(talk)
    answer = client.takes()
    if protocol == "dubbo":
        assert answer == BAD_REQUEST
    elif protocol == "tars":
        assert b"400|headers" in answer
    else:
        assert answer == bolt.failure(1, 3, protocol == "boltv2", protocol == "boltv2")
    refused(talk)


def connects(talk: Talk) -> None:
    """Opens the connection to the host, if there is to be one: a route changes headers when it has one to send them to."""
    if talk.dials and not talk.reasons():
        talk.expect_dial().receives_nothing()


def refused(talk: Talk) -> None:
    """The request was refused with its own reason. The talk's end checks that nothing was sent."""
    assert talk.reasons() == ["unreadable_headers"]
    assert talk.counters()["request_failed"] == 1


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_what_nobody_reads_passes_unchanged(start: Start, raw: bytes) -> None:
    class Blind(StreamFilter):
        def on_request(self, exchange: Exchange) -> None:
            exchange.state["seen"] = True

    routes = [Route("other", Method("other"), Forward("other", 60.0))] if raw[2] & 0x1F == 2 else []
    talk = start(protocols=["dubbo"], filters={"blind": Blind({})}, routes=[*routes, *forward()])
    client = talk.connect()
    client.sends(raw)
    talk.expect_dial().receives(lasting(raw, 1))
    client.resets()


@pytest.mark.parametrize(("protocol", "raw"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_removing_and_setting_concern_all_values(start: Start, protocol: str, raw: bytes) -> None:
    for routes, count in ((changing([], ["role"]), 0), (changing([HeaderAddition("role", "guest", False)], []), 1)):
        talk = start(protocols=[protocol], routes=routes)
        client = talk.connect()
        client.sends(raw)
        if raw == AMBIGUOUS["dubbo, an object"][1]:  # others may refer to it, so it must stay where it is
            connects(talk)
            client.receives(BAD_REQUEST)
            refused(talk)
            continue
        sent = talk.expect_dial().takes()
        assert b"admin" not in sent
        assert sent.lower().count(b"role") == sent.count(b"guest") == count
        client.resets()


@pytest.mark.parametrize(
    ("protocol", "raw"),
    [
        ("dubbo", hessian(b"\x00H\x04path\x01TZ")),
        ("dubbo", hessian(b"\x00M\x01t\x04path\x01TZ")),
        ("dubbo", hessian(b"\x00H\x04pathNZ")),
        ("dubbo", hessian(b"\x00H\x04path\x01S\x04path\x01TZ")),
        ("dubbo", hessian(b"\x00C\x11java.util.HashMap\x91\x04path\x60\x01T")),
        ("bolt", bolt.request(1, headers={"service": "S", "sofa_head_target_service": "T"})),
        ("bolt", bolt.request(1, headers={"sofa_head_target_service": "T", "service": "S"}, kind=2)),
        ("dubbo-thrift", thrift_frame(thrift_message(1), service="S", path="T")),
    ],
)
@pytest.mark.parametrize("matcher", [Service("S"), Service("T"), Header("service", "S"), Service(".*")])
def test_a_service_that_is_another_one_for_the_provider(
    start: Start, protocol: str, raw: bytes, matcher: RouteMatcher
) -> None:
    talk = start(protocols=[protocol], routes=when(matcher))
    client = talk.connect()
    client.sends(raw)
    refused(talk)
    if protocol != "bolt" or raw[1] == 1:
        client.takes()


def test_the_version_that_the_provider_uses(start: Start) -> None:
    talk = start(protocols=["dubbo"], routes=when(Header("version", "1")))
    client = talk.connect()
    client.sends(dubbo.call(1, version="1", attachments={"version": "2"}))
    client.receives(BAD_REQUEST)
    assert talk.reasons() == ["unreadable_headers"]
    client.sends(dubbo.call(2, attachments={"version": "1"}))  # only there
    talk.expect_dial("10.0.1.1:80").takes()
    client.resets()


def test_a_filter_may_catch_the_error(start: Start) -> None:
    class Catches(StreamFilter):
        def on_request(self, exchange: Exchange) -> Reply:
            try:
                exchange.request.headers.items()
            except UnreadableHeaders as error:
                return Reply(200, str(error))
            raise AssertionError

    talk = start(protocols=["dubbo"], filters={"catches": Catches({})})
    client = talk.connect()
    client.sends(UNREADABLE["too many"])
    assert client.takes().endswith(b"attachments: more than 4096 attachments")


class LooksAtResponses(StreamFilter):
    on_error: ClassVar[str] = "skip"

    def on_response(self, exchange: Exchange) -> None:
        assert exchange.response is not None
        exchange.response.headers.remove("secret")


def response_changes(removals: list[str], additions: list[HeaderAddition] | None = None) -> list[Route]:
    changes = LevelChanges([ChangeLevel(additions or [], removals)])
    return [Route("all", AnyRequest(), Forward("service", 60.0), response_changes=changes)]


@pytest.mark.parametrize("by_route", [True, False])
@pytest.mark.parametrize(
    "reply",
    [
        dubbo.frame(2, 20, b"\x94NC\x01q\x90H\x06secret\x01xZ"),
        dubbo.frame(2, 20, b"\x95QN"),
        dubbo.frame(2, 20, b"I\x00\x00\x01\x05H\x06secret\x01xZ"),
        dubbo.frame(8, 20, b"\x06secret"),
        dubbo.frame(23, 20, b"\x00\x00\x00\x02\xbd\x05\x00\x00\x00\x09\xa6\x7f\x4fsecret"),
    ],
)
def test_a_response_that_a_rule_must_change_and_cannot(start: Start, reply: bytes, by_route: bool) -> None:
    options: dict[str, Any] = {"routes": response_changes(["secret"])} if by_route else {}
    if not by_route:
        options["filters"] = {"looks": LooksAtResponses({})}
    talk = start(protocols=["dubbo"], **options)
    client, upstream = talk.forwarded(dubbo.call(7), dubbo.call(1))
    upstream.sends(lasting(reply, 1))
    client.receives(dubbo.error(7, 60, "502|no health upstream"))
    assert talk.reasons() == ["unreadable_response_headers"]


@pytest.mark.parametrize("reply", [dubbo.result(1, "x"), dubbo.error(1), dubbo.result(1, "x", {"a": "b"})])
def test_a_response_that_has_nothing_to_remove_passes(start: Start, reply: bytes) -> None:
    talk = start(protocols=["dubbo"], routes=response_changes(["secret"]), filters={"looks": LooksAtResponses({})})
    client, upstream = talk.forwarded(dubbo.call(1), dubbo.call(1))
    upstream.sends(reply)
    client.receives(reply)


def test_a_response_rule_with_a_variable_of_an_unreadable_request(start: Start) -> None:
    routes = response_changes([], [HeaderAddition("x", "%request_header_role%", False)])
    talk = start(protocols=["dubbo"], routes=routes)
    raw = UNREADABLE["kryo"]
    client, upstream = talk.forwarded(raw, raw)
    upstream.sends(dubbo.result(1, "x", {"a": "b"}))
    client.receives(BAD_REQUEST)
    assert talk.reasons() == ["unreadable_headers"]


def test_logs_judge_nothing(start: Start) -> None:
    lines: list[str] = []
    make = compile_format("%request_header_role% %x-mosn-rpc-service% %reason%").bind(start(protocols=["dubbo"]).clock)

    class Logs(StreamFilter):
        def on_complete(self, exchange: Exchange) -> None:
            lines.append(make(exchange))

    talk = start(protocols=["dubbo"], filters={"logs": Logs({})}, routes=when(Header("role", "admin")))
    client = talk.connect()
    client.sends(UNREADABLE["kryo"])
    client.receives(BAD_REQUEST)
    assert lines == ["- - unreadable_headers"]


def test_a_filter_handle_never_skips_it() -> None:
    """The tests above prove that the refusal is not a filter error, only if the filters skip those."""
    assert FilterHandle("denies", Denies({}), Metrics()).skips_errors
