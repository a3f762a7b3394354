"""A reader of Thrift's compact protocol, independent of the writer: values by field number, then Jaeger's structs."""

from __future__ import annotations

import struct
from typing import Any


class Reader:
    """Reads one packet."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def varint(self) -> int:
        shift = value = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self) -> int:
        value = self.varint()
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def binary(self) -> str:
        size = self.varint()
        self._at += size
        content = self._data[self._at - size : self._at]
        assert len(content) == size, "the packet ends within a text"
        return content.decode()

    def value(self, kind: int) -> Any:
        if kind in (5, 6):
            return self.zigzag()
        if kind == 7:
            self._at += 8
            return struct.unpack("<d", self._data[self._at - 8 : self._at])[0]
        if kind == 8:
            return self.binary()
        if kind == 9:
            head = self._byte()
            size = head >> 4 if head < 0xF0 else self.varint()
            return [self.value(head & 15) for _ in range(size)]
        assert kind == 12, f"unexpected type {kind}"
        return self.fields()

    def fields(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        last = 0
        while head := self._byte():
            last = last + (head >> 4) if head >> 4 else self.zigzag()
            kind = head & 15
            assert last not in found, "a field twice"
            found[last] = kind == 1 if kind in (1, 2) else self.value(kind)
        return found

    def message(self) -> tuple[str, dict[int, Any]]:
        assert self._byte() == 0x82, "not the compact protocol"
        assert self._byte() == (4 << 5 | 1), "not a one-way call of version 1"
        self.varint()
        name, arguments = self.binary(), self.fields()
        assert self._at == len(self._data), "bytes after the message"
        return name, arguments


def _id(high: int, low: int) -> str:
    return f"{high & (1 << 64) - 1:016x}{low & (1 << 64) - 1:016x}"


def _tags(found: list[dict[int, Any]]) -> dict[str, Any]:
    """Tags by key. The type must agree with the field that is set."""
    values: dict[str, Any] = {}
    for tag in found:
        assert set(tag) == {1, 2, (3, 4, 5, 6)[tag[2]]}
        values[tag[1]] = tag[(3, 4, 5, 6)[tag[2]]]
    return values


def _span(found: dict[int, Any]) -> dict[str, Any]:
    return {
        "trace": _id(found[2], found[1]),
        "id": _id(0, found[3])[16:],
        "parent": _id(0, found[4])[16:],
        "operation": found[5],
        "references": [(one[1], _id(one[3], one[2]), _id(0, one[4])[16:]) for one in found.get(6, [])],
        "flags": found[7],
        "started": found[8],
        "duration": found[9],
        "tags": _tags(found.get(10, [])),
    }


def agent_batch(packet: bytes) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """The name of the call, the process and the spans of a packet to Jaeger's agent."""
    name, arguments = Reader(packet).message()
    batch = arguments[1]
    process = {"service": batch[1][1], "tags": _tags(batch[1][2])}
    return name, process, [_span(span) for span in batch[2]]
