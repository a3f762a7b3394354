"""One request over HTTP/2 with prior knowledge, with fields that no proper client would send."""

from __future__ import annotations

import socket

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from interop.xds_groups import Sent


def h2_status(port: int, sent: Sent, case: str, timeout: float) -> int:
    """The status of the response; 0 without one, within `timeout` seconds."""
    config = h2.config.H2Configuration(
        client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    fields = [(":method", sent.method), (":scheme", "http"), (":authority", sent.host), (":path", sent.path)]
    body = b"hello" if sent.method in ("POST", "PUT", "PATCH") else b""
    fields += [("x-case", case), *((name.lower(), value) for name, value in sent.headers)]
    client.send_headers(1, fields, end_stream=not body)
    if body:
        client.send_data(1, body, end_stream=True)
    status = 0
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            while True:
                connection.sendall(client.data_to_send())
                data = connection.recv(65536)
                if not data:
                    return status
                for event in client.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        status = int(dict(event.headers)[":status"])
                    elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                        return status
    except (OSError, h2.exceptions.ProtocolError):
        return status
