"""An exchange whose reply opened a tunnel: WebSocket and other upgrades, CONNECT.

What comes from either side goes to the other as it is, until both have said that they send no more, one breaks off, or
nothing comes for `tunnel_idle_timeout`. Back-pressure is that of bodies. The upstream connection serves nobody else.
"""

from __future__ import annotations

from pymosn.core.failure import FILTER_ERROR, TUNNEL_IDLE
from pymosn.core.message import CONNECT, CONNECT_HERE, ResponseHead
from pymosn.proxy.replying import Tunnel
from pymosn.proxy.requesting import RequestingExchange


class TunnellingExchange(RequestingExchange):
    """The part of an exchange that deals with its tunnel, if it has one."""

    def open_tunnel(self, head: ResponseHead) -> None:
        tunnel = self._tunnel
        if tunnel is None or not _agrees(head):
            self.fail(FILTER_ERROR, f"a filter made it {head.status}: that opens no tunnel, and without one 1xx is no reply")
            return
        if head.new_body is not None:
            self.fail(FILTER_ERROR, "a filter gave a body to a reply that opens a tunnel")
            return
        data = self._reply_data
        self._reply_data = b""
        self._head_sent = True
        tunnel.is_open = True
        stats = self._options.stats
        stats.tunnel_total.value += 1
        stats.tunnel_active.value += 1
        self.bytes_sent += len(data)
        self._runtime.wheel.set(self, self._options.tunnel_idle_timeout)
        # This may at once bring what the client has sent behind its request.
        self._sender.send_response(head, data, False)
        self._release_upstream()
        if self._reply_end:
            self.on_upstream_bytes(tunnel, b"", True)

    def on_client_bytes(self, tunnel: Tunnel, data: bytes, end: bool) -> None:
        upstream = self._upstream
        if upstream is None or tunnel.client_ended:
            return
        self.bytes_received += len(data)
        tunnel.client_ended = end
        upstream.send_data(data, end)
        self._go_on(tunnel)

    def on_upstream_bytes(self, tunnel: Tunnel, data: bytes, end: bool) -> None:
        if self._upstream is None or tunnel.upstream_ended:
            return
        if not self._head_sent:
            self._hold_reply(data, end)
            return
        self.bytes_sent += len(data)
        tunnel.upstream_ended = end
        self._sender.send_data(data, end)
        self._go_on(tunnel)

    def _go_on(self, tunnel: Tunnel) -> None:
        stats = self._options.stats
        self.connection.count_into(stats.bytes_read, stats.bytes_written)
        if tunnel.client_ended and tunnel.upstream_ended:
            self._end_tunnel()
            return
        attempt = self._attempt
        if attempt is not None:
            attempt.count_bytes()
        self._runtime.wheel.set(self, self._options.tunnel_idle_timeout)

    def on_tunnel_idle(self) -> None:
        """Nothing came for too long: both sides get an end, not a reset, since nothing is lost."""
        self.failure = TUNNEL_IDLE
        self.failure_detail = self.upstream_address
        upstream = self._upstream
        if upstream is not None:
            upstream.send_data(b"", True)
        self._sender.send_data(b"", True)
        self._end_tunnel()

    def _end_tunnel(self) -> None:
        attempt = self._attempt
        self._forget_upstream()
        if attempt is not None:
            attempt.finish_tunnel()
        self._finish()


def _agrees(head: ResponseHead) -> bool:
    """Whether the status, which filters may change, is one that opens the tunnel that the upstream agreed to."""
    if head.raw_tunnel == CONNECT or head.raw_tunnel == CONNECT_HERE:
        return 200 <= head.status < 300
    return bool(head.raw_tunnel) and head.status == 101
