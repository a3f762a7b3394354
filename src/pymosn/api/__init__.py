"""The contracts, one file per layer: what an extension may implement, what a layer may ask of the next.

`network` sockets <-> bytes, `protocol` bytes <-> frames, `stream` frames <-> streams, `proxy` streams <-> streams;
`routing` which cluster, `upstream` which host.
"""

from pymosn.api.connection_filter import ConnectionFilter, FilteredConnection, SharedState
from pymosn.api.exchange import Exchange, Reply
from pymosn.api.network import CONTINUE, STOP
from pymosn.api.stream_filter import ClientError, ClientResponse, StreamFilter
from pymosn.api.transcoder import Transcoder
from pymosn.core.headers import HeaderError, Headers, HttpHeaders
from pymosn.core.message import BodyTooLarge, InvalidJson, RefusedPath, UnreadableHeaders
from pymosn.core.secrets import Secret

__all__ = [
    "CONTINUE",
    "STOP",
    "BodyTooLarge",
    "ClientError",
    "ClientResponse",
    "ConnectionFilter",
    "Exchange",
    "FilteredConnection",
    "HeaderError",
    "Headers",
    "HttpHeaders",
    "InvalidJson",
    "RefusedPath",
    "Reply",
    "Secret",
    "SharedState",
    "StreamFilter",
    "Transcoder",
    "UnreadableHeaders",
]
