"""A tunnel: for CONNECT, WebSocket and other upgrades.

Bytes from either side are forwarded unchanged, until both sides have ended, one resets, or nothing arrives for
`tunnel_idle_timeout`. Back-pressure works as for bodies. The upstream connection is never reused.
"""

from __future__ import annotations

from pymosn.core.failure import BAD_RESPONSE, FILTER_ERROR, TUNNEL_IDLE
from pymosn.core.message import CONNECT, CONNECT_HERE, ResponseHead
from pymosn.proxy.body_flow import BodyFlow
from pymosn.proxy.forwarder import Forwarder
from pymosn.proxy.owner import TUNNELING, ExchangeOwner
from pymosn.proxy.sender_wrapper import SenderWrapper


class Tunnel(SenderWrapper):
    """The two directions of a tunnel; each ends separately."""

    def __init__(self, owner: ExchangeOwner, forwarder: Forwarder) -> None:
        super().__init__()
        self.wrapped = forwarder.upstream
        self._owner = owner
        self._forwarder = forwarder
        self._client_ended = False
        self._upstream_ended = False

    def open(self, head: ResponseHead, flow: BodyFlow) -> None:
        """Sends the response that opens the tunnel, with the bytes of the upstream that `flow` holds."""
        owner = self._owner
        if not _agrees(head):
            owner.fail(FILTER_ERROR, not_a_tunnel(head))
            return
        if not owner.exchange.request.accepts_tunnel(head):
            owner.fail(BAD_RESPONSE, "wrong Sec-WebSocket-Accept")
            return
        if head.new_body is not None:
            owner.fail(FILTER_ERROR, "a filter set a body for a response that opens a tunnel")
            return
        owner.stage = TUNNELING
        stats = owner.options.stats
        stats.tunnel_total.value += 1
        stats.tunnel_active.value += 1
        data = flow.take()
        owner.exchange.bytes_sent += len(data)
        owner.runtime.wheel.set(owner, owner.options.tunnel_idle_timeout)
        # This may immediately deliver bytes that the client sent after its request.
        owner.sender.send_response(head, data, False)
        flow.release()
        if flow.ended:
            self.deliver(b"", True)

    def send_data(self, data: bytes, end: bool) -> None:
        """Forwards bytes of the client; `end`: it sends no more."""
        if self._client_ended:
            return
        self._owner.exchange.bytes_received += len(data)
        self._client_ended = end
        super().send_data(data, end)
        self._continue()

    def deliver(self, data: bytes, end: bool) -> None:
        """Forwards bytes of the upstream; `end`: it sends no more."""
        if self._upstream_ended:
            return
        self._owner.exchange.bytes_sent += len(data)
        self._upstream_ended = end
        self._owner.sender.send_data(data, end)
        self._continue()

    def _continue(self) -> None:
        owner = self._owner
        if owner.is_over():
            return
        stats = owner.options.stats
        owner.exchange.connection.count_into(stats.bytes_read, stats.bytes_written)
        if self._client_ended and self._upstream_ended:
            self._end()
        else:
            self._forwarder.count_bytes()
            owner.runtime.wheel.set(owner, owner.options.tunnel_idle_timeout)

    def on_idle(self) -> None:
        """Nothing arrived for too long: both sides get a FIN, not a reset, because nothing is lost."""
        owner = self._owner
        owner.exchange.failure = TUNNEL_IDLE
        owner.exchange.failure_detail = owner.exchange.upstream_address
        super().send_data(b"", True)
        owner.sender.send_data(b"", True)
        self._end()

    def _end(self) -> None:
        self._forwarder.finish_tunnel()
        self._owner.finish()


def not_a_tunnel(head: ResponseHead) -> str:
    """Error text for a status that contradicts whether the response opens a tunnel."""
    return f"status {head.status} cannot open a tunnel, and a 1xx status is not a final response"


def _agrees(head: ResponseHead) -> bool:
    """Whether the status, which filters may change, still opens the tunnel that the upstream agreed to."""
    if head.raw_tunnel == CONNECT or head.raw_tunnel == CONNECT_HERE:
        return 200 <= head.status < 300
    return bool(head.raw_tunnel) and head.status == 101
