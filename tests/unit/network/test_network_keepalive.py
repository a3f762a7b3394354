"""Probes of TCP."""

import socket

from pymosn.api.network import TcpKeepalive
from pymosn.network.keepalive import set_keepalive


def test_the_options_of_a_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        set_keepalive(sock, TcpKeepalive(60, 5, 4))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 5, 4, 80_000]


def test_what_is_no_tcp_socket_is_left_alone() -> None:
    set_keepalive(None, TcpKeepalive())
    left, right = socket.socketpair()
    set_keepalive(left, TcpKeepalive())
    assert left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    left.close()
    right.close()
    closed = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    closed.close()
    set_keepalive(closed, TcpKeepalive())
