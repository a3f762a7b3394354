"""Recorded exchanges as fixtures: the files of `pymosn record` (docs/tap.md), sent through filters and compared."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from pymosn.core.headers import FRAMING, HttpHeaders
from pymosn.proxy.taps import shown_fields
from pymosn.recording import DEFAULT_IGNORED, Body, Difference, Outcome, Recorded, compare, outcome_of, read_recording
from pymosn.recording.record import Fields, raw_value
from pymosn.testing.messages import Request, Response
from pymosn.testing.mistakes import InvalidTest

if TYPE_CHECKING:
    from pymosn.testing.world import Result


class RecordedExchange:
    """One exchange of a file. `record`: all that is known of it."""

    def __init__(self, record: Recorded) -> None:
        self.record = record

    def __str__(self) -> str:
        return f"{self.record.number} {self.record.name()}"

    __repr__ = __str__

    @property
    def protocol(self) -> str:
        """The protocol that the client spoke, for `client_protocol`."""
        return self.record.protocol

    def request(self) -> Request:
        """A new request, as the client sent it; redacted values are in it as such.

        Raises InvalidTest for a call of an RPC protocol, a tunnel, and a request whose body was not recorded as a whole.
        """
        recorded = self.record.request
        if self.record.rpc or self.record.tunnel:
            raise InvalidTest(f"{self}: a World has no RPC and no tunnels")
        body = b"" if recorded.body is None else recorded.body.data
        if recorded.size and (recorded.body is None or not recorded.body.complete):
            raise InvalidTest(f"{self}: its body was not recorded as a whole")
        request = Request(recorded.method, recorded.target, _headers(recorded.headers), body)
        if not request.headers.has_raw(b"host") and recorded.host:
            request.headers.add_raw(b"host", recorded.host.encode())
        if recorded.trailers is not None:
            request.trailers = _headers(recorded.trailers)
        return request

    def upstream(self, request: Request) -> Response:
        """The recorded response, for `upstream` of a World: as if the host had sent what the client got."""
        recorded = self.record.response
        if not 200 <= recorded.status <= 599 or self.record.rpc:
            raise InvalidTest(f"{self}: there is no response of HTTP")
        response = Response(
            recorded.status, b"" if recorded.body is None else recorded.body.data, _headers(recorded.headers)
        )
        if recorded.trailers is not None:
            response.trailers = _headers(recorded.trailers)
        return response

    def differences(self, result: Result, ignored: Collection[str] = DEFAULT_IGNORED) -> list[Difference]:
        """How a result differs from the recorded response; empty if it does not. `ignored`: fields, in lower case."""
        data = result.body
        found = Outcome(
            status=result.status,
            headers=shown_fields(result.headers),
            trailers=None if result.trailers is None else shown_fields(result.trailers),
            body=Body(size=len(data), data=data, complete=not result.was_reset),
            reset="reset" if result.was_reset else "",
        )
        return compare(outcome_of(self.record), found, ignored)


def recorded(path: str | os.PathLike[str]) -> list[RecordedExchange]:
    """The exchanges of a tape or a HAR file. Raises RecordingError, naming the file and the line."""
    return [RecordedExchange(record) for record in read_recording(path)]


def _headers(fields: Fields) -> HttpHeaders:
    """The fields without those that frame a message."""
    headers = HttpHeaders()
    for field in fields:
        name = field[0].lower().encode()
        if name not in FRAMING:
            headers.add_raw(name, raw_value(field))
    return headers
