"""Routes count their requests, in a bounded number of groups; durations have the ids of traces."""

from tests.kit import GET, OK, Start, Talk

from pymosn.api.routing import Route
from pymosn.core.counters import GroupData
from pymosn.routing.actions import DirectResponse, Forward
from pymosn.routing.matchers import AnyRequest, Prefix


def routes() -> list[Route]:
    """Of this test: a route has its counters in one worker only."""
    return [
        Route("r/v/a/0", Prefix("/denied"), DirectResponse(401, "no"), label="denied"),
        Route("r/v/a/1", AnyRequest(), Forward("service", 60.0)),
    ]


def groups_of(talk: Talk) -> dict[tuple[str, ...], GroupData]:
    """The groups of routes by router, virtual host and route."""
    found = {}
    for group in talk.metrics.snapshot():
        if group["type"] == "route":
            labels = dict(group["labels"])
            found[labels["router"], labels["virtual_host"], labels["route"]] = group
    return found


def asks(talk: Talk, path: bytes = b"/") -> None:
    """One request and its response."""
    if path == b"/":
        client, upstream = talk.opening(GET)
        upstream.takes()
        upstream.sends(OK)
    else:
        client = talk.connect()
        client.sends(GET.replace(b"GET / ", b"GET " + path + b" ", 1))
    client.takes()
    client.resets()


def test_a_route_is_counted_from_its_first_request_on(start: Start) -> None:
    talk = start(routes=routes())
    assert groups_of(talk) == {}
    asks(talk, b"/denied")
    assert list(groups_of(talk)) == [("r", "v/a", "denied")]
    asks(talk, b"/denied")
    asks(talk)
    counters = {names: group["counters"] for names, group in groups_of(talk).items()}
    assert counters == {("r", "v/a", "denied"): {"hits": 2}, ("r", "v/a", "1"): {"hits": 1}}


def test_results_and_durations_on_request(start: Start) -> None:
    talk = start(routes=routes())
    talk.runtime.routes.is_detailed = True
    asks(talk, b"/denied")
    asks(talk)
    found = groups_of(talk)
    assert found["r", "v/a", "denied"]["counters"] == {"hits": 1, "code_401": 1}
    assert found["r", "v/a", "1"]["counters"] == {"hits": 1, "code_200": 1}
    assert [group["histograms"]["request_time"]["count"] for group in found.values()] == [1, 1]


def test_routes_beyond_the_limit_are_counted_together(start: Start) -> None:
    many = [Route(f"r/v/{number}", Prefix(f"/{number}"), DirectResponse(200, "")) for number in range(5)]
    talk = start(routes=many)
    talk.runtime.routes.limit = 2
    for number in (0, 1, 2, 3, 4, 0):
        asks(talk, f"/{number}".encode())
    counters = {names: group["counters"]["hits"] for names, group in groups_of(talk).items()}
    assert counters == {("r", "v", "0"): 2, ("r", "v", "1"): 1, ("other", "other", "other"): 3}


def test_durations_have_the_trace_of_their_last_request(start: Start) -> None:
    talk = start(routes=routes())
    asks(talk, b"/denied")

    def exemplars() -> list[str]:
        [group] = [group for group in talk.metrics.snapshot() if group["type"] == "downstream"]
        return [exemplar[1] for exemplar in group["histograms"]["request_time"]["exemplars"]]

    assert exemplars() == []
    talk.runtime.routes.has_exemplars = True
    asks(talk, b"/denied")
    first = exemplars()
    asks(talk, b"/denied")
    assert len(first) == len(exemplars()) == 1
    assert first != exemplars()
