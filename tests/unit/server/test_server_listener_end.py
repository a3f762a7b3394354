"""How listeners stop: handshakes that have begun may complete, as long as there are any."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from pymosn.network.closing import accept_last, refuse_new
from pymosn.server.half_open import half_open_ports
from pymosn.server.listener_end import stop_listening


class FakeListener:
    """A listener at a port; `calls` is what was asked of it."""

    def __init__(self, port: int | None, ip: str = "127.0.0.1") -> None:
        self._address = None if port is None else (ip, port)
        self.calls: list[str] = []

    def bound_address(self) -> tuple[str, int] | None:
        return self._address

    def refuse_new(self) -> None:
        self.calls.append("refuse_new")

    def stop_accepting(self) -> None:
        self.calls.append("stop_accepting")


class Kernel:
    """Answers with one list of half-open ports after the other, then with the last one."""

    def __init__(self, *answers: set[int] | None) -> None:
        self._answers = list(answers)
        self.asked: list[bool] = []

    def __call__(self, with_ipv6: bool) -> set[int] | None:
        self.asked.append(with_ipv6)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def stop(listeners: Sequence[Any], kernel: Kernel, limit: float) -> float:
    """The seconds that it took."""

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await stop_listening(listeners, limit, kernel)
        return loop.time() - began

    return asyncio.run(scenario())


def test_it_waits_while_handshakes_at_its_port_are_half_open() -> None:
    listener, kernel = FakeListener(80), Kernel({80, 81}, {80}, {81})
    stop([listener], kernel, 60.0)
    assert listener.calls == ["refuse_new", "stop_accepting"]
    assert kernel.asked == [False] * 3


@pytest.mark.parametrize("answer", [{80}, None])
def test_it_closes_after_the_time_if_they_do_not_complete_or_are_unknown(answer: set[int] | None) -> None:
    listener, kernel = FakeListener(80), Kernel(answer)
    assert stop([listener], kernel, 0.1) >= 0.1
    assert listener.calls == ["refuse_new", "stop_accepting"]
    assert len(kernel.asked) > 1


def test_without_a_port_and_without_time_there_is_nothing_to_wait_for() -> None:
    unix, kernel = FakeListener(None), Kernel({80})
    stop([unix], kernel, 60.0)
    assert (unix.calls, kernel.asked) == (["refuse_new", "stop_accepting"], [])
    late = FakeListener(80)
    stop([late], kernel, -1.0)
    assert (late.calls, kernel.asked) == (["refuse_new", "stop_accepting"], [])


def test_ipv6_is_asked_for_where_it_is_used() -> None:
    kernel = Kernel(set())
    stop([FakeListener(80), FakeListener(81, "::1")], kernel, 60.0)
    assert kernel.asked == [True]


def test_the_kernel_lists_no_complete_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        found = half_open_ports(True)
        if found is None:
            pytest.skip("the kernel does not list sockets (sock_diag)")
        assert found.isdisjoint({server.getsockname()[1], client.getsockname()[1]})


def test_a_socket_that_refuses_new_clients_still_has_those_that_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        with socket.create_connection(server.getsockname(), 5) as first:
            refuse_new(server)
            with socket.socket() as second:
                second.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    second.connect(server.getsockname())
            (accepted,) = accept_last(server)
            assert accepted.getpeername() == first.getsockname()
            accepted.close()


def test_a_udp_socket_gets_no_filter() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        refuse_new(sock)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"\x02" * 20, sock.getsockname())
        sock.settimeout(5)
        assert sock.recv(99) == b"\x02" * 20
