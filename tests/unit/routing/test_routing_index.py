"""The index over many routes chooses what a walk from top to bottom chooses."""

from hypothesis import given
from hypothesis import strategies as st

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.routing import Route, RouteMatcher
from pymosn.core.headers import HttpHeaders
from pymosn.routing.actions import DirectResponse
from pymosn.routing.conditions import Exact, HeaderTest
from pymosn.routing.index import RouteIndex
from pymosn.routing.matchers import AllOf, AnyRequest, Header, Method, Path, PathRegex, Prefix, Service
from pymosn.routing.table import VirtualHost

PATHS = st.sampled_from(["/", "/a", "/A", "/a/", "/a/b", "/ab", "/a/b/c", "/b", "/abc/d"])
FIRST = st.one_of(
    PATHS.map(Prefix),
    PATHS.map(Path),
    st.sampled_from(["b", "^/a$", "a/b|b/c", "(?i)^/A"]).map(PathRegex),
    st.sampled_from([Header("x", "1"), Header("X", "1,2"), Header("x", "^1", True), Header("y", ""), Service("s")]),
    st.sampled_from([Service(".*"), Service("")]),
)
EXTRA = st.sampled_from([Header("x", "1"), Header("y", ""), Method("POST")])
HEADERS = st.sampled_from([b"", b"x: 1\r\n", b"x: 1\r\nX: 2\r\n", b"y:\r\nx: 1\r\n", b"service: s\r\n", b"service:\r\n"])
MATCHERS: st.SearchStrategy[RouteMatcher] = st.one_of(
    FIRST, st.tuples(FIRST, EXTRA).map(lambda pair: AllOf(list(pair))), st.just(AnyRequest())
)


def asking(path: str, method: bytes = b"GET", headers: bytes = b"") -> Exchange:
    exchange = Exchange(Connection())
    exchange.request = HttpRequest()
    exchange.request.raw_path = path.encode()
    exchange.request.raw_method = method
    exchange.request.headers = HttpHeaders(headers)
    return exchange


def routes_of(matchers: list[RouteMatcher]) -> list[Route]:
    action = DirectResponse(200, "")
    return [Route(str(place), matcher, action) for place, matcher in enumerate(matchers)]


@given(st.lists(MATCHERS, max_size=40), PATHS, st.sampled_from([b"GET", b"POST"]), HEADERS)
def test_index_and_walk_agree(matchers: list[RouteMatcher], path: str, method: bytes, headers: bytes) -> None:
    routes = routes_of(matchers)
    exchange = asking(path, method, headers)
    expected = next((route for route in routes if route.matcher.matches(exchange)), None)
    assert RouteIndex(routes).find(exchange) is expected
    assert VirtualHost("v", [], routes).find(exchange) is expected


class Counted(RouteMatcher):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def matches(self, exchange: Exchange) -> bool:
        self.asked += 1
        return False


def test_a_thousand_routes_are_not_all_asked() -> None:
    counted = [Counted() for _ in range(1000)]
    matchers: list[RouteMatcher] = [AllOf([Path(f"/p/{place}"), counted[place]]) for place in range(1000)]
    host = VirtualHost("v", [], routes_of([*matchers, Prefix("/p")]))
    found = host.find(asking("/p/777"))
    assert found is not None
    assert found.name == "1000"
    assert sum(entry.asked for entry in counted) == 1


def test_of_a_thousand_headers_only_the_right_one_is_asked() -> None:
    counted = [Counted() for _ in range(1000)]
    matchers: list[RouteMatcher] = [AllOf([Prefix("/"), Header("x", str(n)), counted[n]]) for n in range(1000)]
    host = VirtualHost("v", [], routes_of([*matchers, Prefix("/")]))
    found = host.find(asking("/p", headers=b"x: 777\r\n"))
    assert found is not None
    assert found.name == "1000"
    assert [place for place, entry in enumerate(counted) if entry.asked] == [777]


def test_a_header_that_is_repeated_is_looked_up_once_for_each_value() -> None:
    counted = Counted()
    matchers: list[RouteMatcher] = [AllOf([HeaderTest("x", Exact("a")), counted]) for _ in range(10)]
    index = RouteIndex(routes_of(matchers))
    assert index.find(asking("/", headers=b"x: a\r\nx: b\r\n" * 50)) is None
    assert counted.asked == 10


def test_a_set_of_regexes_that_is_too_large_is_walked() -> None:
    matchers: list[RouteMatcher] = [PathRegex(f"^/{place}/\\pL{{1,300}}x$") for place in range(12)]
    host = VirtualHost("v", [], routes_of(matchers))
    found = host.find(asking("/11/aax"))
    assert found is not None
    assert found.name == "11"


def test_many_regexes_are_compiled_in_steps_and_the_first_that_matches_is_chosen() -> None:
    matchers: list[RouteMatcher] = [PathRegex(f"^/r{place}/") for place in range(350)]
    matchers[220] = PathRegex("^/r310/")
    matchers += [Path("/r310/a"), Prefix("/r3")]
    index = RouteIndex(routes_of(matchers), is_built=False)
    assert len(list(index.build())) >= 4
    cases = {"/r0/": "0", "/r99/": "99", "/r100/": "100", "/r310/a": "220", "/r349/x": "349", "/r3": "351", "/x": None}
    for path, name in cases.items():
        found = index.find(asking(path))
        assert (found and found.name) == name, path
