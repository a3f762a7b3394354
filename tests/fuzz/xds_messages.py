"""Random messages of xDS, made from the descriptors of their fields, and mutations of good ones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pymosn.control.xds.convert.messages import MODULES, parse

#: Texts that people write, and texts that break what is careless with them.
TEXTS: Final = (
    *("a", "/", "/a/b", "a.example", "*.example", "*", "10.0.0.1", "::1", "127.0.0.1:80", "x-a", ":path", ":authority"),
    *("a\r\nb: c", "a\nb", "\0", "", " ", "é", "ß.example", "a" * 300, "%REQ(a)%", "%", "%%", "%START_TIME(", "$1", "\\1"),
    *("(a|b)+", "(", "[a-z]{1,2000}", "unix:/x", "/dev/stdout", "../../etc/passwd", "h2", "http/1.1", "tls", "raw_buffer"),
    *(
        "envoy.lb",
        "5xx,reset,retriable-status-codes",
        "GET",
        "spiffe://a/b",
        "1",
        "-1",
        "100",
        "*:8080",
        "a:b",
        "a,b",
        "{a}",
    ),
    *("host", "TLSv1_2", "P-256", "ECDHE-ECDSA-AES128-GCM-SHA256", "websocket", "CONNECT", "content-length", "UH"),
)
NUMBERS: Final = (0, 1, 2, 3, 7, 80, 100, 128, 200, 404, 503, 599, 600, 65535, 65536, 1 << 20, 5000011, (1 << 31) - 1)
SECONDS: Final = (0, 1, 5, 60, 3600, 10**9, 315_576_000_000, -1, 1 << 40)
NANOS: Final = (0, 1, 1000, 500_000_000, 999_999_999, -1, 1_000_000_000, (1 << 31) - 1)
FLOATS: Final = (0.0, 0.5, 1.0, 1.5, 100.0, -1.0, 1e308, float("inf"), float("nan"))
#: Texts that many fields need to be accepted at all.
_OF_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "address": ("127.0.0.1", "::1", "10.0.0.1", "a.example"),
    "address_prefix": ("10.0.0.0", "::", "127.0.0.1"),
    "cluster": ("a", "b"),
    "cluster_name": ("a", "b"),
    "domains": ("*", "a.example", "*.example", "a.*"),
    "name": ("a", "b", "x-a"),
    "regex": ("a.*", "/[a-z]+", "(a|b)*"),
    "prefix": ("/", "/a"),
    "path": ("/a", "/dev/stdout"),
    "key": ("x-a", "x-b", "envoy.lb"),
    "route_config_name": ("a",),
    "inline_string": ("-----BEGIN CERTIFICATE-----", "a"),
}
_TYPES: Final = tuple(name for name in MODULES if ".extensions." in name or name.startswith(("pymosn", "stats")))


class Generator:
    """Makes messages from a seed. `depth`: of messages in messages."""

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)

    def message(self, name: str, depth: int = 6) -> Any:
        """A message of a type, such as `envoy.config.cluster.v3.Cluster`, of which some fields are set."""
        made = parse(name, b"")
        self.fill(made, depth)
        return made

    def fill(self, message: Any, depth: int, count: int | None = None) -> None:
        """Sets some fields of a message, at most `count`."""
        name = message.DESCRIPTOR.full_name
        if name == "google.protobuf.Duration":
            message.seconds, message.nanos = self.random.choice(SECONDS), self.random.choice(NANOS)
            return
        if name == "google.protobuf.Any":
            self._pack(message, depth)
            return
        fields = list(message.DESCRIPTOR.fields)
        limit = count if count is not None else self.random.randint(1, 5)
        for field in self.random.sample(fields, min(limit, len(fields))):
            self.set_field(message, field, depth)

    def _pack(self, message: Any, depth: int) -> None:
        kind = self.random.choice(_TYPES)
        if kind not in _classes():
            return
        message.Pack(self.message(kind, depth - 1), type_url_prefix="type.googleapis.com/")

    def set_field(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        """Sets a field, or adds to it."""
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._set_entry(message, field, depth)
        elif field.message_type is not None:
            if depth <= 0:
                return
            if field.is_repeated:
                for _ in range(self.random.choice((1, 1, 2))):
                    self.fill(getattr(message, field.name).add(), depth - 1)
            else:
                inner = getattr(message, field.name)
                inner.SetInParent()
                self.fill(inner, depth - 1)
        elif field.is_repeated:
            getattr(message, field.name).extend([self.scalar(field) for _ in range(self.random.choice((1, 1, 3)))])
        else:
            setattr(message, field.name, self.scalar(field))

    def _set_entry(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        entry: Descriptor = field.message_type
        table = getattr(message, field.name)
        key = self.scalar(entry.fields_by_name["key"])
        value = entry.fields_by_name["value"]
        if value.message_type is None:
            table[key] = self.scalar(value)
        elif depth > 0:
            self.fill(table[key], depth - 1)

    def scalar(self, field: FieldDescriptor) -> Any:
        """A value for a field without messages."""
        choose = self.random.choice
        if field.enum_type is not None:
            return choose([value.number for value in field.enum_type.values] * 3 + [99])
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                likely = _OF_NAMES.get(field.name)
                text = choose(likely) if likely and self.random.random() < 0.7 else choose(TEXTS)
                return text.encode() + choose((b"", b"\xff")) if field.type == FieldDescriptor.TYPE_BYTES else text
            case FieldDescriptor.CPPTYPE_BOOL:
                return choose((True, False))
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                value = choose(FLOATS)
                return value if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE or value < 1e30 else 1e30
            case FieldDescriptor.CPPTYPE_UINT64:
                return choose((*NUMBERS, (1 << 64) - 1))
            case FieldDescriptor.CPPTYPE_UINT32:
                return choose((*NUMBERS, (1 << 32) - 1))
            case FieldDescriptor.CPPTYPE_INT64:
                return choose((*NUMBERS, -1, -(1 << 63)))
        return choose((*NUMBERS, -1, -(1 << 31)))

    def mutated(self, good: Message, changes: int) -> Any:
        """A copy of a message in which some fields, at any depth and also in `Any`, are set, changed or cleared."""
        made = type(good)()
        made.CopyFrom(good)
        for _ in range(changes):
            self._change(made)
        return made

    def _change(self, message: Any) -> None:
        while True:
            inner = [value for field, value in message.ListFields() if field.message_type is not None]
            found = [item for value in inner for item in _messages(value)]
            if not found or self.random.random() < 0.3:
                break
            message = self.random.choice(found)
            if message.DESCRIPTOR.full_name == "google.protobuf.Any":
                self._change_packed(message)
                return
        fields = list(message.DESCRIPTOR.fields)
        if not fields:
            return
        present = [field for field, _ in message.ListFields()]
        field = self.random.choice(present) if present and self.random.random() < 0.4 else self.random.choice(fields)
        if self.random.random() < 0.3:
            message.ClearField(field.name)
        elif message.DESCRIPTOR.full_name == "google.protobuf.Duration":
            self.fill(message, 1)
        else:
            self.set_field(message, field, 4)

    def _change_packed(self, packed: Any) -> None:
        name = packed.type_url.rpartition("/")[2]
        if name not in _classes():
            return
        message = parse(name, packed.value)
        self._change(message)
        packed.Pack(message, type_url_prefix="type.googleapis.com/")


def _messages(value: Any) -> list[Any]:
    """The messages in the value of a field: of one, a list or a map."""
    if isinstance(value, Message):
        return [value]
    if hasattr(value, "items"):
        return [inner for inner in value.values() if isinstance(inner, Message)]
    return [inner for inner in value if isinstance(inner, Message)]


_known: set[str] = set()


def _classes() -> set[str]:
    """The names of all types that a converter may unpack and that exist."""
    if not _known:
        for name, module in MODULES.items():
            import_module(module)
            _known.add(name)
    return _known
