"""Frames of Dubbo and values of hessian 2, written from their descriptions and knowing nothing of pymosn's codec."""

from __future__ import annotations

import struct
from typing import Any

HESSIAN2 = 2


class Reference:
    """The value that is the container of this number in the message."""

    def __init__(self, number: int) -> None:
        self.number = number


class Hessian2:
    """Writes values, keeping count of classes as a sender does. `wide` writes long forms where short ones would do."""

    def __init__(self, wide: bool = False) -> None:
        self._classes: dict[tuple[str, ...], int] = {}
        self._wide = wide

    def write(self, value: Any) -> bytes:
        """One value: None, bool, int, float, str, bytes, list, dict, Reference, or a tuple (class name, fields by name)."""
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"T", False: b"F"}[value]
        if isinstance(value, int):
            return self.integer(value) if -(2**31) <= value < 2**31 else b"L" + struct.pack(">q", value)
        if isinstance(value, float):
            return b"D" + struct.pack(">d", value)
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.binary(value)
        if isinstance(value, Reference):
            return b"Q" + self.integer(value.number)
        if isinstance(value, list):
            return self.sequence(value)
        if isinstance(value, dict):
            return b"H" + b"".join(self.write(key) + self.write(item) for key, item in value.items()) + b"Z"
        return self.instance(*value)

    def integer(self, value: int) -> bytes:
        if -16 <= value < 48 and not self._wide:
            return bytes((0x90 + value,))
        return b"I" + struct.pack(">i", value)

    def text(self, value: str) -> bytes:
        raw = value.encode("utf-16-be", "surrogatepass")
        units = [chr(unit) for unit in struct.unpack(f">{len(raw) // 2}H", raw)]
        if len(units) < 32 and not self._wide:
            return bytes((len(units),)) + _java("".join(units))
        parts = []
        while len(units) > 40:
            parts.append(b"R" + struct.pack(">H", 40) + _java("".join(units[:40])))
            units = units[40:]
        return b"".join([*parts, b"S" + struct.pack(">H", len(units)), _java("".join(units))])

    def binary(self, value: bytes) -> bytes:
        if len(value) < 16 and not self._wide:
            return bytes((0x20 + len(value),)) + value
        return b"A" + struct.pack(">H", len(value)) + value + b"B\x00\x00"

    def sequence(self, values: list[Any]) -> bytes:
        items = b"".join(map(self.write, values))
        if self._wide:
            return b"U\x05[list" + items + b"Z"
        return bytes((0x78 + len(values),)) + items if len(values) < 8 else b"X" + self.integer(len(values)) + items

    def instance(self, name: str, fields: dict[str, Any]) -> bytes:
        shape = (name, *fields)
        defined = b""
        if shape not in self._classes:
            self._classes[shape] = len(self._classes)
            names = b"".join(map(self.text, fields))
            defined = b"C" + self.text(name) + self.integer(len(fields)) + names
        number = self._classes[shape]
        tag = bytes((0x60 + number,)) if number < 16 and not self._wide else b"O" + self.integer(number)
        return defined + tag + b"".join(map(self.write, fields.values()))


def _java(units: str) -> bytes:
    return units.encode("utf-8", "surrogatepass")


def frame(flags: int, status: int, body: bytes, request_id: int = 1) -> bytes:
    """A frame with any flags."""
    return struct.pack(">HBBqI", 0xDABB, flags, status, request_id, len(body)) + body


def call(
    request_id: int = 1,
    service: str = "S",
    method: str = "m",
    version: str | None = None,
    arguments: tuple[Any, ...] = (),
    attachments: dict[str, Any] | None = None,
    one_way: bool = False,
    wide: bool = False,
) -> bytes:
    """A request in hessian 2."""
    writer = Hessian2(wide)
    front = (writer.write(value) for value in ("2.0.2", service, version, method, "Ljava/lang/Object;" * len(arguments)))
    body = b"".join([*front, *map(writer.write, arguments), writer.write(attachments)])
    return frame(0x80 + (0 if one_way else 0x40) + HESSIAN2, 0, body, request_id)


def result(request_id: int = 1, value: Any = None, attachments: dict[str, Any] | None = None, wide: bool = False) -> bytes:
    """A reply whose status is OK; with attachments unless they are None."""
    writer = Hessian2(wide)
    kind = (1 if value is not None else 2) + (0 if attachments is None else 3)
    body = writer.write(kind) + (b"" if value is None else writer.write(value))
    return frame(HESSIAN2, 20, body + (b"" if attachments is None else writer.write(attachments)), request_id)


def error(request_id: int = 1, status: int = 70, text: str = "no") -> bytes:
    """A reply with an error."""
    return frame(HESSIAN2, status, Hessian2().write(text), request_id)


def heartbeat(request_id: int = 1) -> bytes:
    return frame(0xE0 + HESSIAN2, 0, b"N", request_id)


def heartbeat_ack(request_id: int = 1) -> bytes:
    return frame(0x20 + HESSIAN2, 20, b"N", request_id)


def readonly(request_id: int = 0) -> bytes:
    return frame(0xA0 + HESSIAN2, 0, b"\x01R", request_id)
