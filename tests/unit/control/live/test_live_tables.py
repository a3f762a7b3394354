"""Rows are filtered, sorted and paged by the server."""

import asyncio
from typing import Any

import pytest
from tests.unit.control.live.live_plane import LivePlane, Time, sampler_of, until

from pymosn.control.live.tables import MOST_ROWS, TABLES, Query, QueryError, Tables, page_of, query_of

ROWS = [
    {"name": "b", "rate": 2.0, "health": "healthy"},
    {"name": "a", "rate": None, "health": "ejected"},
    {"name": "C", "rate": 10.0, "health": "failed_active_check"},
    {"name": "a2", "rate": 0, "health": "unchecked"},
]


def names(query: Query) -> list[str]:
    return [row["name"] for row in page_of(ROWS, query, ("name", "health"))["rows"]]


def test_rows_are_sorted_and_those_without_a_value_come_last() -> None:
    assert names(Query()) == ["b", "a", "C", "a2"]
    assert names(Query(sort="name")) == ["a", "a2", "b", "C"]
    assert names(Query(sort="-rate")) == ["C", "b", "a2", "a"]
    assert names(Query(sort="rate")) == ["a2", "b", "C", "a"]
    assert names(Query(sort="health")) == ["C", "a", "b", "a2"], "what needs attention first"


def test_rows_are_filtered_and_paged() -> None:
    found = page_of(ROWS, Query("a", "name", 1, 2), ("name", "health"))
    assert [row["name"] for row in found["rows"]] == ["a2", "b"]
    assert (found["total"], found["matched"], found["offset"]) == (4, 4, 1)
    assert names(Query("a ejec")) == ["a"], "all words"
    assert names(Query("nothing")) == []
    assert names(Query(exact={"health": "healthy"})) == ["b"]
    assert names(Query(offset=100)) == []
    assert names(Query(limit=0)) == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"limit": str(MOST_ROWS + 1)}, "limit must be a number"),
        ({"offset": "-1"}, "offset must be a number"),
        ({"offset": "1e3"}, "offset must be a number"),
        ({"limit": "٣"}, "limit must be a number"),
        ({"limit": "9" * 30}, "limit must be a number"),
        ({"cluster": "c"}, "unknown parameter 'cluster'"),
    ],
)
def test_invalid_parameters_are_named(given: dict[str, str], text: str) -> None:
    with pytest.raises(QueryError, match=text):
        query_of(given, ())


def test_a_query_has_what_was_given() -> None:
    given = {"q": " Ab ", "sort": "-p99", "offset": "5", "limit": "7", "cluster": "c", "health": ""}
    assert query_of(given, TABLES["hosts"]) == Query("ab", "-p99", 5, 7, {"cluster": "c"})


def page(plane: LivePlane, name: str, query: Query, requests: int = 0) -> dict[str, Any]:
    """A page of a table; the traffic of `requests` comes within ten seconds before."""

    async def run() -> dict[str, Any]:
        time = Time()
        sampler = sampler_of(plane, time)
        tables = Tables(plane, sampler)
        watcher = sampler.join()
        await until(lambda: len(time.pauses) == 1)
        plane.listener().request_total.value += requests
        plane.host("10.0.0.3:80").request_total.value += requests
        await time.pass_(10.0, lambda: len(time.pauses) == 2)
        found = await tables.page(name, query)
        sampler.leave(watcher)
        sampler.close()
        return found

    return asyncio.run(run())


def test_ten_thousand_hosts_are_sent_in_pages() -> None:
    plane = LivePlane()
    plane.host("10.0.0.3:80")
    plane.add_hosts(9_990)
    plane.add_hosts(10, "failed_active_check")
    found = page(plane, "hosts", Query(sort="health", limit=20))
    assert (found["total"], found["matched"], len(found["rows"])) == (10_000, 10_000, 20)
    assert [row["health"] for row in found["rows"]] == ["failed_active_check"] * 10 + ["healthy"] * 10
    assert found["rows"][0]["why"] == "no answer within 1 s"
    assert found["health"] == {"failed_active_check": 10, "ejected": 0, "unchecked": 0, "healthy": 9_990}
    by_rate = page(plane, "hosts", Query(sort="-rate_requests", limit=2), requests=50)
    assert next((row["address"], row["rate_requests"]) for row in by_rate["rows"]) == ("10.0.0.3:80", 5.0)
    assert by_rate["rows"][1]["rate_requests"] is None
    with pytest.raises(QueryError, match="unknown column 'nonsense'"):
        page(plane, "hosts", Query(sort="nonsense"))
    assert page(plane, "hosts", Query(exact={"cluster": "other"}))["total"] == 0


def test_listeners_clusters_and_routes_of_the_configuration() -> None:
    plane = LivePlane()
    plane.listener()
    plane.add_hosts(3)
    plane.add_hosts(1, "ejected")
    (listener, *_) = page(plane, "listeners", Query(sort="-rate_requests"), requests=20)["rows"]
    assert listener["name"] == "clientListener"
    assert (listener["rate_requests"], listener["requests"], listener["filters"]) == (2.0, 20, "proxy")
    (cluster,) = page(plane, "clusters", Query())["rows"]
    assert (cluster["name"], cluster["hosts"], cluster["usable"]) == ("c", 4, 3)
    found = page(plane, "routes", Query("client"))
    (route,) = found["rows"]
    assert (route["table"], route["match"], route["action"]) == ("client_router", 'prefix "/"', "cluster clientCluster")
    assert route["hits"] is None, "without counters nothing is known"


def test_routes_have_hits_where_they_are_counted() -> None:
    plane = LivePlane()
    host = plane.current().servers[0].router_tables()["client_router"].virtual_hosts[0]
    group = plane.metrics.group("route", ("route", "0"), ("router", "client_router"), ("virtual_host", host.name))
    group.counter("hits").value = 7
    found = page(plane, "routes", Query(sort="table"))["rows"]
    assert [(route["table"], route["hits"]) for route in found] == [("client_router", 7), ("server_router", 0)]
    plane.metrics.group("route", ("route", "other"), ("router", "other"), ("virtual_host", "other"))
    found = page(plane, "routes", Query(sort="table"))["rows"]
    assert [route["hits"] for route in found] == [7, None], "it may be counted as one of the others"
