"""Reads a message of a control plane so that no field is overlooked.

A converter opens a `View` of a message in a `with` statement and reads its fields by methods. At the end, each field that is
set but was not read is looked up in `fields.HARMLESS`; if it is not there, the resource is rejected. So a field of a newer
control plane can never be ignored by mistake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from pymosn.control.xds.convert.fields import HARMLESS
from pymosn.control.xds.convert.messages import UnknownTypeError, unpack
from pymosn.control.xds.convert.rules import broken

#: Characters of a path or a message in the text of a fault, and faults in a list: keys and names may have megabytes.
LONGEST: Final = 500
MOST: Final = 50
#: The largest duration of protobuf, in seconds: 10,000 years (duration.proto).
_LONGEST_DURATION: Final = 315_576_000_000
_NOT_SUPPORTED: Final = "not supported; rejected, because ignoring it could change what the resource means"


class Fault(NamedTuple):
    """Why a resource is rejected, or a warning about it. `path`: such as `filter_chains[0].filters[1].typed_config`."""

    path: str
    message: str

    def text(self) -> str:
        """`path: message`, both shortened if they are very long."""
        message = shortened(self.message)
        return f"{shortened(self.path)}: {message}" if self.path else message


def shortened(text: str) -> str:
    """A text without what exceeds `LONGEST`."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def listed(texts: Sequence[str]) -> str:
    """Texts in one line; the rest of very many is counted."""
    rest = [f"and {len(texts) - MOST} more"] if len(texts) > MOST else []
    return "; ".join([*texts[:MOST], *rest])


class Report:
    """What was found while one resource was converted.

    `ignored`: full names of harmless fields, with their number. `read`: full names of the fields that were read.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.ignored: Counter[str] = Counter()
        self.read: set[str] = set()

    def fault(self, path: str, message: str) -> None:
        """The resource is rejected for this reason."""
        self.faults.append(Fault(path, message))

    def warn(self, path: str, message: str) -> None:
        """The resource is accepted, but not all of it has an effect."""
        self.warnings.append(Fault(path, message))

    def text(self) -> str:
        """All faults, for the control plane."""
        return listed([fault.text() for fault in self.faults])


class View:
    """One message at `path` of its resource. Each field must be read once; a field that is not set has its default."""

    def __init__(self, message: Message, path: str, report: Report) -> None:
        self.message: Any = message
        self.path = path
        self.report = report
        self._fields = {field.name: field for field, _ in message.ListFields()}
        self._unread = set(self._fields)

    def __enter__(self) -> View:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if kind is None:
            self.close()

    @property
    def type_name(self) -> str:
        """The full name of the message's type, such as `envoy.config.cluster.v3.Cluster`."""
        return str(self.message.DESCRIPTOR.full_name)

    def close(self) -> None:
        """Reports the fields that are set but were not read, and those that break a rule of the message's type."""
        for name in sorted(self._unread):
            full_name = f"{self.type_name}.{name}"
            if full_name in HARMLESS:
                self.report.ignored[full_name] += 1
            else:
                self.fault(name, _NOT_SUPPORTED)
        for name, why in broken(self.message, self._fields):
            if not any(fault.path == self.at(name) for fault in self.report.faults):
                self.fault(name, why)
        for field in UnknownFieldSet(self.message):
            self.fault("", f"field number {field.field_number} of {self.type_name} is unknown; {_NOT_SUPPORTED}")

    # ---- faults

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path and name else self.path or name

    def fault(self, name: str, message: str) -> None:
        """Reports a fault of a field, or of the message if `name` is empty."""
        self.report.fault(self.at(name), message)

    def warn(self, name: str, message: str) -> None:
        """Reports that a field has no effect, or not all of its effect."""
        self.report.warn(self.at(name), message)

    def refuse(self, name: str, why: str) -> None:
        """Rejects the resource if a field is set."""
        if self.has(name):
            self._mark(name)
            self.fault(name, why)

    # ---- reading

    def has(self, name: str) -> bool:
        """Whether a field is set. This does not read it."""
        return name in self._fields

    def which(self, oneof: str) -> str:
        """The name of the field of a oneof that is set; empty if none is. This does not read it."""
        return self.message.WhichOneof(oneof) or ""

    def value(self, name: str) -> Any:
        """A scalar."""
        self._mark(name)
        return getattr(self.message, name)

    def line(self, name: str) -> str:
        """A text that becomes part of a head; CR, LF and NUL are a fault, as in Envoy."""
        text = str(self.value(name))
        if any(character in text for character in "\r\n\0"):
            self.fault(name, "must not contain CR, LF or NUL")
        return text

    def values(self, name: str) -> list[Any]:
        """A list of scalars."""
        if name not in self._fields:
            return []
        self._mark(name)
        return list(getattr(self.message, name))

    def table(self, name: str) -> dict[str, Any]:
        """A map from strings to scalars or messages."""
        self._mark(name)
        return dict(getattr(self.message, name))

    def struct(self, name: str) -> dict[str, Any]:
        """A `Struct` as JSON; a number that JSON does not have is a fault."""
        try:
            found: dict[str, Any] = json_format.MessageToDict(self.value(name))
        except ValueError:
            self.fault(name, "has a number that is not finite")
            return {}
        return found

    def enum(self, name: str) -> str:
        """The name of an enumeration's value; its number as text if it is unknown."""
        number = self.value(name)
        known = self._descriptor(name).enum_type.values_by_number
        return str(known[number].name) if number in known else str(number)

    def wrapped(self, name: str) -> Any:
        """The value in a wrapper, such as UInt32Value; None without it."""
        return self.value(name).value if self.has(name) else None

    def seconds(self, name: str) -> float | None:
        """A duration in seconds; None without it. A negative or invalid one is a fault, as in Envoy."""
        if not self.has(name):
            return None
        duration = self.value(name)
        if not 0 <= duration.seconds <= _LONGEST_DURATION or not 0 <= duration.nanos < 1_000_000_000:
            self.fault(name, f"invalid duration of {duration.seconds} s and {duration.nanos} ns")
            return None
        return float(duration.seconds + duration.nanos / 1e9)

    def inner(self, name: str) -> View | None:
        """The message in a field; None if it is not set."""
        if not self.has(name):
            return None
        return View(self.value(name), self.at(name), self.report)

    def items(self, name: str) -> list[View]:
        """The messages of a list."""
        if name not in self._fields:
            return []
        return [View(item, f"{self.at(name)}[{i}]", self.report) for i, item in enumerate(self.values(name))]

    def entry(self, name: str, key: str, message: Message) -> View:
        """A message of a map that `table` has returned."""
        return View(message, f"{self.at(name)}[{key}]", self.report)

    def typed(self, name: str) -> View | None:
        """The message in an `Any`; None if it is not set, or, with a fault, of an unknown type."""
        if not self.has(name):
            return None
        return self.unpacked(self.value(name), name)

    def unpacked(self, packed: Any, name: str) -> View | None:
        """The message in an `Any` that was read as a part of the field `name`, such as `typed_per_filter_config[cors]`."""
        try:
            return View(unpack(packed), self.at(name), self.report)
        except UnknownTypeError as error:
            self.fault(name, str(error))
            return None

    def _mark(self, name: str) -> None:
        if name in self._unread:
            self._unread.discard(name)
            self.report.read.add(f"{self.type_name}.{name}")

    def _descriptor(self, name: str) -> FieldDescriptor:
        return self.message.DESCRIPTOR.fields_by_name[name]
