"""Dubbo messages as headers: the called method, then the attachments."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcHeaders, is_name
from pymosn.core.headers import HeaderError, lower_name, to_bytes
from pymosn.protocol.dubbo.attachments import (
    Attachments,
    RequestBody,
    RequestFront,
    add_entry,
    find_plain,
    plain_at,
    response_map,
)
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader
from pymosn.protocol.dubbo.java_text import write_text

#: Fields of a request before its arguments, in wire order.
HEAD: Final = (b"dubbo", b"service", b"version", b"method")
#: Attachments that repeat them, and that providers use.
_REPEATED: Final = {b"service": (b"path", b"interface"), b"version": (b"version",)}
_UNKNOWN: Final[i64] = -2


class DubboHeaders(RpcHeaders):
    """Common part of both directions: attachments, which may be missing or unreadable.

    A message whose attachments cannot be read is forwarded unchanged. `set`, `add` and `remove` then raise HeaderError for a
    request. For a response, which may be an error that cannot carry attachments, changes are visible to later readers, but
    are not sent.
    """

    def __init__(self, is_request: bool, body: bytes) -> None:
        """`body`: the body of the message."""
        super().__init__()
        self._is_request = is_request
        self._payload = body
        self._plain_at: i64 = _UNKNOWN
        self._attachments: Attachments | None = None
        self._is_sought = False
        self._fault = ""

    def at_map(self) -> Hessian2Reader:
        """A reader, positioned at the attachments unless they have been read. Raises Hessian2Error if there are none."""
        raise NotImplementedError

    def tail(self, payload: bytes) -> list[bytes] | None:
        """The bytes that replace the last byte of `payload`, or None if `rewritten` must be used."""
        added = self.additions()
        if added is None or payload is not self._payload or self._plain() < 0:
            return None
        parts: list[bytes] = []
        for field in added:
            add_entry(parts, field)
        parts.append(b"Z")
        return parts

    def rewritten(self, payload: bytes) -> list[bytes]:
        """The body `payload`, in parts, with the current fields; unchanged if they cannot be written."""
        return [payload]

    def _plain(self) -> i64:
        """The offset of plain attachments, or -1."""
        if self._plain_at == _UNKNOWN:
            try:
                self._plain_at = plain_at(self.at_map())
            except Hessian2Error as error:
                self._plain_at = -1
                self._is_sought = True
                self._fault = str(error)
        return self._plain_at

    def attachments(self) -> Attachments | None:
        """The received attachments, or None if they cannot be read."""
        if not self._is_sought:
            self._is_sought = True
            try:
                self._attachments = Attachments(self.at_map())
            except Hessian2Error as error:
                self._fault = str(error)
        return self._attachments

    def scan(self, name: bytes) -> bytes | None:
        at: i64 = self._plain()
        if at >= 0:
            return find_plain(self._payload, at, name)
        attachments = self.attachments()
        if attachments is not None:
            for entry in attachments.entries:
                if entry.field[1] is not None and is_name(entry.field[0], name):
                    return entry.field[1]
        return None

    def holds(self, name: bytes) -> bool:
        at: i64 = self._plain()
        return super().holds(name) if at < 0 else find_plain(self._payload, at, name) is not None

    def read(self) -> list[Field]:
        attachments = self.attachments()
        return [] if attachments is None else attachments.fields()

    def remove_raw(self, name: bytes) -> bool:
        return False if self._is_held(name) else super().remove_raw(name)

    def _put(self, name: bytes, value: bytes) -> None:
        if not self._is_request or self._plain() >= 0 or self.attachments() is not None:
            super()._put(name, value)

    def _is_held(self, name: bytes) -> bool:
        """Whether attachment `name` must stay unchanged."""
        if self._plain() >= 0:
            return False
        attachments = self.attachments()
        if attachments is None:
            return self._is_request
        return attachments.has_fixed and any(
            entry.is_fixed and is_name(entry.field[0], name) for entry in attachments.entries
        )

    def check_change(self, name: str) -> None:
        if self._is_held(lower_name(name)):
            why = self._fault or "it is an object that others may refer to"
            raise HeaderError(f"attachment {name} cannot be changed: {why}")


class DubboRequestHeaders(DubboHeaders):
    """`dubbo`, `service`, `version` and `method` of a request, then its attachments (`group`, `timeout`, ...)."""

    def __init__(self, front: RequestFront, body: bytes) -> None:
        super().__init__(True, body)
        self._front = front

    def rewritten(self, payload: bytes) -> list[bytes]:
        front = self._front
        attachments = self.attachments()
        if attachments is None or payload is not attachments.body or not isinstance(front, RequestBody):
            return write_request(payload, self.fields())
        return _request(front, attachments, self.fields())

    def first_value_names(self) -> tuple[bytes, ...]:
        return HEAD

    def at_map(self) -> Hessian2Reader:
        return self._front.at_map()

    def holds(self, name: bytes) -> bool:
        return name in HEAD or super().holds(name)

    def scan(self, name: bytes) -> bytes | None:
        value: bytes | None = None
        if name == b"service":
            value = self._front.service
        elif name == b"method":
            value = self._front.method
        elif name == b"version":
            value = self._front.version
        elif name == b"dubbo":
            value = self._front.dubbo
        return super().scan(name) if value is None else value

    def read(self) -> list[Field]:
        front = self._front
        head: list[Field] = [
            (b"dubbo", front.dubbo),
            (b"service", front.service),
            (b"version", front.version),
            (b"method", front.method),
        ]
        return head + super().read()

    def set(self, name: str, value: str) -> None:
        """Sets a header. `service` and `version` are also changed in the attachments that repeat them."""
        raw = lower_name(name)
        if raw not in HEAD:
            super().set(name, value)
            return
        self.check_change(name)
        if raw not in _REPEATED:
            raise HeaderError(f"header {name} is read-only because it determines the argument types")
        index: i64 = HEAD.index(raw)
        fields: list[Field] = []
        for i, field in enumerate(self.fields()):
            is_repeated = i >= len(HEAD) and field[0] in _REPEATED[raw]
            fields.append((field[0], to_bytes(value)) if is_repeated or i == index else field)
        self._fields = fields
        self.is_changed = True

    def add(self, name: str, value: str) -> None:
        if lower_name(name) in HEAD:
            raise HeaderError(f"header {name} can occur only once")
        super().add(name, value)

    def remove(self, name: str) -> bool:
        if lower_name(name) in HEAD:
            raise HeaderError(f"header {name} is required and cannot be removed")
        return super().remove(name)

    def remove_raw(self, name: bytes) -> bool:
        return False if name in HEAD else super().remove_raw(name)


class DubboResponseHeaders(DubboHeaders):
    """The attachments of a response."""

    def __init__(self, body: bytes) -> None:
        super().__init__(False, body)

    def rewritten(self, payload: bytes) -> list[bytes]:
        attachments = self.attachments()
        if attachments is None or payload is not attachments.body:
            return write_response(payload, self.fields())
        return _response(attachments, self.fields())

    def at_map(self) -> Hessian2Reader:
        return response_map(self._payload)


class NoHeaders(DubboHeaders):
    """Headers of a message that is not in hessian 2 or has no attachments: none."""

    def __init__(self, is_request: bool, reason: str) -> None:
        super().__init__(is_request, b"")
        self._reason = reason

    def at_map(self) -> Hessian2Reader:
        raise Hessian2Error(self._reason)


def write_request(body: bytes, fields: list[Field]) -> list[bytes]:
    """`body`, in parts, with `fields` as its headers; unchanged if it cannot be read.

    The first field of each name in HEAD is written before the arguments.
    """
    try:
        old = RequestBody(body)
        attachments = Attachments(old.at_map())
    except Hessian2Error:
        return [body]
    return _request(old, attachments, fields)


def _request(old: RequestBody, attachments: Attachments, fields: list[Field]) -> list[bytes]:
    body = old.body
    front: dict[bytes, bytes | None] = {}
    rest: list[Field] = []
    for field in fields:
        if len(front) < len(HEAD) and field[0] in HEAD and field[0] not in front:
            front[field[0]] = field[1]
        else:
            rest.append(field)
    return [
        _front(front.get(b"dubbo", old.dubbo), old.dubbo, body[: old.service_at]),
        _front(front.get(b"service", old.service), old.service, body[old.service_at : old.version_at]),
        _front(front.get(b"version", old.version), old.version, body[old.version_at : old.method_at]),
        _front(front.get(b"method", old.method), old.method, body[old.method_at : old.types_at]),
        body[old.types_at : attachments.start],
        *attachments.written(rest),
        body[attachments.end :],
    ]


def _front(value: bytes | None, old: bytes | None, raw: bytes) -> bytes:
    return raw if value == old else write_text(value)


def write_response(body: bytes, fields: list[Field]) -> list[bytes]:
    """`body` of a response, in parts, with `fields` as its attachments; unchanged if it cannot have any."""
    try:
        attachments = Attachments(response_map(body))
    except Hessian2Error:
        return [body]
    return _response(attachments, fields)


def _response(attachments: Attachments, fields: list[Field]) -> list[bytes]:
    body = attachments.body
    return [body[: attachments.start], *attachments.written(fields), body[attachments.end :]]
