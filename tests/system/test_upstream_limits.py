"""Limits and times of upstream connections, by their keys, on the real program; and what the admin API tells of ejection."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually, get

pytestmark = pytest.mark.once

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class RawUpstream:
    """Answers each request with `reply`; keeps how many each connection brought, and when each one ended."""

    def __init__(self) -> None:
        self.reply = REPLY
        self.counts: list[int] = []
        self.ended: dict[int, float] = {}
        #: Closes a connection so long after its first reply; None is never.
        self.closes_after: float | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.counts.append(0)
            threading.Thread(target=self._serve, args=(connection, len(self.counts) - 1), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            data = b""
            while True:
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    break
                except OSError:
                    piece = b""
                if not piece:
                    break
                data += piece
                while b"\r\n\r\n" in data:
                    data = data.partition(b"\r\n\r\n")[2]
                    self.counts[number] += 1
                    connection.sendall(self.reply)
                    connection.settimeout(self.closes_after)
        self.ended[number] = time.monotonic()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    server = RawUpstream()
    yield server
    server.close()


def begin(start: Start, hops: TwoHops, raw: RawUpstream, workers: int = 1, **cluster: Any) -> Pymosn:
    hops.config["cluster_manager"]["clusters"][1] |= {"hosts": [{"address": f"127.0.0.1:{raw.port}"}], **cluster}
    proxy = start(hops.config, "--workers", str(workers))
    proxy.wait_for(READY)
    return proxy


def stats(hops: TwoHops, key: str) -> int:
    """A counter of the cluster `server`."""
    found = json.loads(hops.admin("/api/v1/stats"))["upstream"]["cluster.server"]
    return int(found.get(key, 0))


@contextmanager
def deaf_host() -> Iterator[list[dict[str, str]]]:
    """Hosts of a cluster, one, that answers no connection: a full backlog drops what comes, as a firewall does."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield [{"address": f"127.0.0.1:{deaf.getsockname()[1]}"}]


def test_requests_of_one_connection_are_counted(start: Start, two_hops: TwoHops, raw: RawUpstream) -> None:
    begin(start, two_hops, raw, max_request_per_conn=3)
    assert [two_hops.get()[0] for _ in range(8)] == [200] * 8
    assert raw.counts == [3, 3, 2]


def test_an_idle_connection_is_closed_in_its_time_and_not_before(start: Start, two_hops: TwoHops, raw: RawUpstream) -> None:
    begin(start, two_hops, raw, idle_timeout="400ms")
    began = time.monotonic()
    assert two_hops.get()[0] == 200
    assert eventually(lambda: 0 in raw.ended)
    assert 0.35 < raw.ended[0] - began < PATIENCE, "by default it stays open"
    assert two_hops.get()[0] == 200
    assert len(raw.counts) == 2


def test_connections_that_the_upstream_closes_while_they_are_idle_cost_no_error(
    start: Start, two_hops: TwoHops, raw: RawUpstream
) -> None:
    raw.closes_after = 0.02
    begin(start, two_hops, raw)
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.client_port, timeout=PATIENCE)
    found = []
    for number in range(40):
        connection.request("GET", "/")
        response = connection.getresponse()
        found.append((response.status, response.read()))
        threading.Event().wait(0.015 + number % 5 * 0.004)  # before, at and after the moment at which the upstream closes
    connection.close()
    assert found == [(200, b"hi")] * 40
    assert len(raw.counts) > 5, "connections were closed meanwhile"


def test_a_host_that_answers_no_connection_is_given_up_in_time(start: Start, two_hops: TwoHops, raw: RawUpstream) -> None:
    with deaf_host() as hosts:
        begin(start, two_hops, raw, hosts=hosts, connect_timeout="300ms")
        began = time.monotonic()
        assert two_hops.get()[0] == 502
        assert 0.25 < time.monotonic() - began < 10, "by default a connection has 10 s"
    assert stats(two_hops, "connection_con_fail") == 1


def test_requests_that_wait_for_a_connection_are_bounded(start: Start, two_hops: TwoHops, raw: RawUpstream) -> None:
    with deaf_host() as hosts:
        limits = [{"max_pending_requests": 2}]
        begin(start, two_hops, raw, hosts=hosts, connect_timeout="5s", circuit_breakers=limits)
        found: list[tuple[int, float]] = []

        def client() -> None:
            began = time.monotonic()
            status = two_hops.get()[0]
            found.append((status, time.monotonic() - began))

        clients = [threading.Thread(target=client) for _ in range(6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
    assert sorted(status for status, _ in found) == [502, 502, 503, 503, 503, 503]
    slowest = {status: max(seconds for found_status, seconds in found if found_status == status) for status in (502, 503)}
    assert slowest[503] < slowest[502] / 2, "refused at once, not after the dial"
    assert stats(two_hops, "request_pending_overflow") == 4


def test_an_ejection_is_told_with_how_many_workers_eject(start: Start, two_hops: TwoHops, raw: RawUpstream) -> None:
    raw.reply = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
    rule = {"consecutive_errors": 3, "base_ejection_time": "1h", "max_ejection_percent": 100}
    begin(start, two_hops, raw, 2, outlier_detection=rule)

    def host() -> dict[str, Any]:
        (cluster,) = json.loads(two_hops.admin("/api/v1/clusters?name=server"))
        assert cluster["workers"] == 2
        found: dict[str, Any] = cluster["hosts"][0]
        return found

    assert (host()["health"], host()["ejected"]) == ("unchecked", 0)
    seen: set[int] = set()

    def ask_until_both_eject() -> bool:
        get(two_hops.server_port, "/")
        seen.add(host()["ejected"])
        return host()["ejected"] == 2

    assert eventually(ask_until_both_eject)
    assert seen == {0, 1, 2}
    assert host()["health"] == "ejected"
    assert "ejected by 2 of 2 workers" in two_hops.admin("/api/v1/clusters?name=server&format=text")
    connection = http.client.HTTPConnection("127.0.0.1", two_hops.admin_port, timeout=PATIENCE)
    connection.request("POST", "/api/v1/explain", json.dumps({"url": f"http://127.0.0.1:{two_hops.server_port}/"}))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["cluster"]["health"] == "live"
    assert answer["cluster"]["hosts"][0]["health"] == "ejected by 2 of 2 workers"
    assert answer["reply"]["reason"] == "all_unhealthy"
    assert get(two_hops.server_port, "/")[0] == 502
