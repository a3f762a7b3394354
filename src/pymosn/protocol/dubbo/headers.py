"""Dubbo messages as headers: the called method, then the attachments."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.rpc import Field, RpcHeaders, is_name
from pymosn.core.headers import HeaderError, lower_name, to_bytes, to_text
from pymosn.core.rpc_headers import has_name
from pymosn.protocol.dubbo.attachments import (
    Attachments,
    HessianAttachments,
    RequestBody,
    RequestFront,
    add_entry,
    find_plain,
    plain_at,
    response_map,
)
from pymosn.protocol.dubbo.bodies import HESSIAN2, request_front, response_attachments
from pymosn.protocol.dubbo.fronts import Front
from pymosn.protocol.dubbo.hessian2 import Hessian2Error, Hessian2Reader

#: Fields of a request before its arguments, in wire order.
HEAD: Final = (b"dubbo", b"service", b"version", b"method")
#: Attachments that repeat them.
_REPEATED: Final = {b"service": (b"path", b"interface"), b"version": (b"version",)}
#: The attachments that replace them in providers.
_REPLACED_BY: Final = {b"service": b"path", b"version": b"version"}
_UNKNOWN: Final[i64] = -2


class DubboHeaders(RpcHeaders):
    """Common part of both directions: attachments, which may be missing or unreadable.

    A message whose attachments cannot be read is forwarded unchanged, unless something reads or changes them: that raises
    UnreadableHeaders. A response without attachments, such as an error, cannot carry any: changes are visible to later
    readers, but are not sent.
    """

    def __init__(self, is_request: bool, body: bytes, serialization: i64) -> None:
        """`body`: the body of the message."""
        super().__init__()
        self.is_response = not is_request
        self.serialization: i64 = serialization
        self._payload = body
        # Only a map of hessian 2 can be plain.
        self._plain_at: i64 = _UNKNOWN if serialization == HESSIAN2 else -1
        self._attachments: Attachments | None = None
        self._is_sought = False
        self._fault = ""

    def at_map(self) -> Hessian2Reader | None:
        """In hessian 2: a reader at the attachments unless they have been read; None if there are none.

        Raises Hessian2Error if they cannot be found.
        """
        raise NotImplementedError

    def find_attachments(self) -> Attachments | None:
        """Reads the attachments; None if there are none. Raises Hessian2Error if they cannot be read."""
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
        """The body `payload`, in parts, with the current fields. Raises HeaderError if it cannot be read."""
        raise NotImplementedError

    def _plain(self) -> i64:
        """The offset of plain attachments, or -1."""
        if self._plain_at == _UNKNOWN:
            self._plain_at = -1
            try:
                reader = self.at_map()
                if reader is not None:
                    self._plain_at = plain_at(reader)
            except Hessian2Error as error:
                self._is_sought = True
                self._fault = str(error)
        return self._plain_at

    def attachments(self) -> Attachments | None:
        """The received attachments; None if the message has none. Raises UnreadableHeaders."""
        if not self._is_sought:
            self._is_sought = True
            try:
                self._attachments = self.find_attachments()
            except Hessian2Error as error:
                self._fault = str(error) or "unreadable"
        if self._fault:
            raise self.unreadable(f"attachments: {self._fault}")
        return self._attachments

    def scan(self, name: bytes) -> bytes | None:
        at: i64 = self._plain()
        if at < 0:
            return self.value_in(self.fields(), name)
        try:
            return find_plain(self._payload, at, name)
        except Hessian2Error:
            raise self.conflict(name) from None

    def holds(self, name: bytes) -> bool:
        at: i64 = self._plain()
        if at < 0:
            return super().holds(name)
        try:
            return find_plain(self._payload, at, name) is not None
        except Hessian2Error:
            return True

    def read(self) -> list[Field]:
        attachments = self.attachments()
        return [] if attachments is None else attachments.fields()

    def remove_raw(self, name: bytes) -> bool:
        self._check(name)
        return super().remove_raw(name)

    def _put(self, name: bytes, value: bytes) -> None:
        if self._plain() < 0:
            self.attachments()
        super()._put(name, value)

    def _check(self, name: bytes) -> None:
        """Raises UnreadableHeaders if attachment `name` cannot be changed."""
        if self._plain() >= 0:
            return
        attachments = self.attachments()
        if attachments is None or not attachments.has_fixed:
            return
        for entry in attachments.entries:
            if entry.is_fixed and is_name(entry.field[0], name):
                why = "it is an object that others may refer to"
                raise self.unreadable(f"attachment {to_text(name)} cannot be changed: {why}")

    def check_change(self, name: str) -> None:
        self._check(lower_name(name))


class DubboRequestHeaders(DubboHeaders):
    """`dubbo`, `service`, `version` and `method` of a request, then its attachments (`group`, `timeout`, ...).

    Providers put the attachments over the fields before the arguments: they use the attachments `path` and `version` instead
    of service and version. If these differ, service or version is ambiguous like a name with different values.
    """

    def __init__(self, front: RequestFront, body: bytes, serialization: i64) -> None:
        super().__init__(True, body, serialization)
        self.front = front

    def rewritten(self, payload: bytes) -> list[bytes]:
        attachments = self.attachments()
        if attachments is None or payload is not attachments.body:
            return write_request(payload, self.fields(), self.serialization)
        return _request(self.front, attachments, self.fields())

    def first_value_names(self) -> tuple[bytes, ...]:
        return HEAD

    def at_map(self) -> Hessian2Reader | None:
        front = self.front
        return front.at_map() if isinstance(front, RequestBody) else None

    def find_attachments(self) -> Attachments | None:
        return self.front.attachments()

    def holds(self, name: bytes) -> bool:
        return name in HEAD or super().holds(name)

    def scan(self, name: bytes) -> bytes | None:
        front = self.front
        if name == b"service":
            return self._used(name, front.service)
        if name == b"method":
            return front.method
        if name == b"version":
            return self._used(name, front.version)
        return front.dubbo if name == b"dubbo" else super().scan(name)

    def _used(self, name: bytes, value: bytes | None) -> bytes | None:
        """What the provider uses as service or version, of which `value` precedes the arguments."""
        if self._plain() < 0:
            return self.value_in(self.fields(), name)
        attached = super().scan(_REPLACED_BY[name])
        return value if attached is None else self._one_of(name, value, attached)

    def _one_of(self, name: bytes, value: bytes | None, attached: bytes | None) -> bytes | None:
        if value is not None and value != attached:
            raise self.unreadable(f"{to_text(name)!r} differs from the attachment {to_text(_REPLACED_BY[name])!r}")
        return attached

    def value_in(self, fields: list[Field], name: bytes) -> bytes | None:
        value = super().value_in(fields, name)
        key = _REPLACED_BY.get(name)
        if key is None:
            return value
        attached = fields[len(HEAD) :]
        return self._one_of(name, value, super().value_in(attached, key)) if has_name(attached, key) else value

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        for name in _REPLACED_BY:
            self.get_raw(name)
        return super().items_raw()

    def read(self) -> list[Field]:
        front = self.front
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
            is_repeated = i >= len(HEAD) and field[0].lower() in _REPEATED[raw]
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
    """The attachments of a response with status OK."""

    def __init__(self, body: bytes, serialization: i64) -> None:
        super().__init__(False, body, serialization)

    def rewritten(self, payload: bytes) -> list[bytes]:
        attachments = self.attachments()
        if attachments is None:
            return [payload]
        if payload is not attachments.body:
            return write_response(payload, self.fields(), self.serialization)
        return _response(attachments, self.fields())

    def at_map(self) -> Hessian2Reader | None:
        return response_map(self._payload)

    def find_attachments(self) -> Attachments | None:
        if self.serialization != HESSIAN2:
            return response_attachments(self._payload, self.serialization)
        reader = response_map(self._payload)
        return None if reader is None else HessianAttachments(reader)


class NoHeaders(DubboHeaders):
    """Headers of an error response: none."""

    def __init__(self) -> None:
        super().__init__(False, b"", 0)

    def rewritten(self, payload: bytes) -> list[bytes]:
        return [payload]

    def find_attachments(self) -> Attachments | None:
        return None


class UnknownHeaders(DubboHeaders):
    """Headers of a request that cannot be read at all, for example because its serialization is unknown."""

    def __init__(self, body: bytes, reason: str) -> None:
        super().__init__(True, body, 0)
        self._reason = reason

    def rewritten(self, payload: bytes) -> list[bytes]:
        return [payload]

    def find_attachments(self) -> Attachments | None:
        raise Hessian2Error(self._reason)


class FrontHeaders(UnknownHeaders):
    """Headers of a request of which only the strings before the arguments can be read.

    Routes and logs use these. Everything else raises UnreadableHeaders, as providers put the attachments over them.
    """

    def __init__(self, body: bytes, front: Front) -> None:
        super().__init__(body, "they follow arguments that cannot be read in this serialization")
        self.front = front

    def at_front(self, name: str) -> bytes | None:
        """The string that routes know as `name`; None for any other name."""
        if name == "service":
            return self.front.service
        if name == "method":
            return self.front.method
        return self.front.version if name == "version" else None


def write_request(body: bytes, fields: list[Field], serialization: i64) -> list[bytes]:
    """`body`, in parts, with `fields` as its headers. Raises HeaderError if it cannot be read.

    The first field of each name in HEAD is written before the arguments.
    """
    try:
        front = request_front(body, serialization)
        attachments = front.attachments()
    except Hessian2Error as error:
        raise HeaderError(f"headers cannot be written to the body that a filter set: {error}") from None
    return _request(front, attachments, fields)


def _request(old: RequestFront, attachments: Attachments, fields: list[Field]) -> list[bytes]:
    body = old.body
    front: dict[bytes, bytes | None] = {}
    rest: list[Field] = []
    for field in fields:
        if len(front) < len(HEAD) and field[0] in HEAD and field[0] not in front:
            front[field[0]] = field[1]
        else:
            rest.append(field)
    service = front.get(b"service", old.service)
    version = front.get(b"version", old.version)
    return [
        body[: old.service_at],
        body[old.service_at : old.version_at] if service == old.service else old.encode(service),
        body[old.version_at : old.method_at] if version == old.version else old.encode(version),
        body[old.method_at : attachments.start],
        *attachments.written(rest),
        body[attachments.end :],
    ]


def write_response(body: bytes, fields: list[Field], serialization: i64) -> list[bytes]:
    """`body` of a response, in parts, with `fields` as its attachments; unchanged if it has none.

    Raises HeaderError if they cannot be read.
    """
    try:
        attachments = response_attachments(body, serialization)
    except Hessian2Error as error:
        raise HeaderError(f"headers cannot be written to the body that a filter set: {error}") from None
    return [body] if attachments is None else _response(attachments, fields)


def _response(attachments: Attachments, fields: list[Field]) -> list[bytes]:
    body = attachments.body
    return [body[: attachments.start], *attachments.written(fields), body[attachments.end :]]
