"""Header fields that are decoded on demand, as RPC protocols have them."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from pymosn.core.chars import has_lowered
from pymosn.core.headers import Headers, lower_name, to_text

#: One header field: the received name, and the value; None where the protocol has a null.
Field = tuple[bytes, bytes | None]


def is_name(key: bytes, name: bytes) -> bool:
    """Whether `key` equals the lower-case `name`, ignoring ASCII case."""
    return len(key) == len(name) and has_lowered(key, 0, name)


def first(fields: list[Field], name: bytes) -> bytes | None:
    """The first value of `name` (lower case) that is not null."""
    for key, value in fields:
        if value is not None and is_name(key, name):
            return value
    return None


def has_name(fields: list[Field], name: bytes) -> bool:
    """Whether a field is called `name` (lower case)."""
    return any(is_name(field[0], name) for field in fields)


@mypyc_attr(allow_interpreted_subclasses=True)
class RpcHeaders(Headers):
    """The header fields of an RPC message, decoded on demand.

    Names are compared without regard to case, and are sent in the case in which they were received. Values are any bytes;
    text is UTF-8 with surrogate escapes. A field with a null value counts as absent, but is kept when the message is
    re-encoded.

    New fields follow those of the frame, which need not be decoded for that: see `additions`.
    """

    def __init__(self) -> None:
        #: Whether a field was changed.
        self.is_changed = False
        self._fields: list[Field] | None = None
        self._added: list[Field] | None = None

    def read(self) -> list[Field]:
        """Decodes all fields into a new list. The decoder has checked that they are well formed."""
        return []

    def scan(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower case) in the frame. Override to find it without decoding every field."""
        return first(self.fields(), name)

    def holds(self, name: bytes) -> bool:
        """Whether the frame contains field `name` (lower case), even with a null value. Override like `scan`."""
        return has_name(self.fields(), name)

    def first_value_names(self) -> tuple[bytes, ...]:
        """Names (lower case) of which only the first value is authoritative."""
        return ()

    def fields(self) -> list[Field]:
        """The current fields, in order, nulls included; callers must not change the list."""
        fields = self._fields
        if fields is None:
            fields = self.read()
            self._fields = fields
            if self._added is not None:
                fields += self._added
                self._added = None
        return fields

    def additions(self) -> list[Field] | None:
        """Fields to append when the frame's own fields are unmodified; None if they may have been modified."""
        return self._added

    def _put(self, name: bytes, value: bytes) -> None:
        self.is_changed = True
        if self._fields is not None:
            self._fields.append((name, value))
        elif self._added is None:
            self._added = [(name, value)]
        else:
            self._added.append((name, value))

    # ---- the views

    def get_all(self, name: str) -> list[str]:
        raw = lower_name(name)
        if raw in self.first_value_names():
            value = self.get_raw(raw)
            return [] if value is None else [to_text(value)]
        return [to_text(value) for key, value in self.fields() if value is not None and is_name(key, raw)]

    def get_raw(self, name: bytes) -> bytes | None:
        if self._fields is not None:
            return first(self._fields, name)
        value = self.scan(name)
        if value is None and self._added is not None:
            value = first(self._added, name)
        return value

    def add_raw(self, name: bytes, value: bytes) -> None:
        self._put(name, value)

    def remove_raw(self, name: bytes) -> bool:
        if self._fields is None and not self.holds(name) and (self._added is None or not has_name(self._added, name)):
            return False
        fields = self.fields()
        kept = [field for field in fields if not is_name(field[0], name)]
        if len(kept) == len(fields):
            return False
        self._fields = kept
        self.is_changed = True
        return True

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        return [(key.lower(), value) for key, value in self.fields() if value is not None]

    def copy(self) -> Headers:
        copied = RpcHeaders()
        copied._fields = list(self.fields())
        copied.is_changed = True
        return copied


def fields_of(headers: Headers) -> list[Field]:
    """The fields of any headers, for encoding."""
    if isinstance(headers, RpcHeaders):
        return headers.fields()
    return [(name, value) for name, value in headers.items_raw()]


def is_changed(headers: Headers) -> bool:
    """Whether headers differ from those of the frame."""
    return not isinstance(headers, RpcHeaders) or headers.is_changed
