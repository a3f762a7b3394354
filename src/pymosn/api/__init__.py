"""The contracts, one file per layer: what an extension may implement, what a layer may ask of the next.

`network` sockets <-> bytes, `protocol` bytes <-> frames, `stream` frames <-> streams, `proxy` streams <-> streams;
`routing` which cluster, `upstream` which host.
"""

from pymosn.api.connection_filter import ConnectionFilter, FilteredConnection, SharedState
from pymosn.api.exchange import Exchange, Reply
from pymosn.api.extension import ChangeRejected, Extension, Plane, Put, Remove, SetHosts
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
    "ChangeRejected",
    "ClientError",
    "ClientResponse",
    "ConnectionFilter",
    "Exchange",
    "Extension",
    "FilteredConnection",
    "HeaderError",
    "Headers",
    "HttpHeaders",
    "InvalidJson",
    "Plane",
    "Put",
    "RefusedPath",
    "Remove",
    "Reply",
    "Secret",
    "SetHosts",
    "SharedState",
    "StreamFilter",
    "Transcoder",
    "UnreadableHeaders",
]
