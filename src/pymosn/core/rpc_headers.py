"""Header fields that are decoded on demand, as RPC protocols have them."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from pymosn.core.chars import has_lowered
from pymosn.core.failure import UNREADABLE_HEADERS, UNREADABLE_RESPONSE_HEADERS
from pymosn.core.headers import HeaderError, Headers, lower_name, to_text
from pymosn.core.message import UnreadableHeaders

#: One header field: the received name, and the value; None where the protocol has a null.
Field = tuple[bytes, bytes | None]

#: The value of a field that has one, but no text: a list or a date. Compared by identity; made at run time, since equal
#: literals are the same object.
NO_TEXT: Final = bytes(bytearray(b"(no text)"))


def is_name(key: bytes, name: bytes) -> bool:
    """Whether `key` equals the lower-case `name`, ignoring ASCII case."""
    return len(key) == len(name) and has_lowered(key, 0, name)


def first(fields: list[Field], name: bytes) -> bytes | None:
    """The first value of `name` (lower case) that is not null, for encoding; `RpcHeaders.value_in` is for judging."""
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

    Peers read the fields into a map, so a name has one value. Fields whose names are equal, ignoring case, with different
    values are ambiguous: methods that read the name raise UnreadableHeaders; `remove` removes all, `set` replaces all.

    New fields follow those of the frame, which need not be decoded for that: see `additions`.
    """

    def __init__(self) -> None:
        #: Whether a field was changed.
        self.is_changed = False
        #: Whether these are the headers of a response.
        self.is_response = False
        self._fields: list[Field] | None = None
        self._added: list[Field] | None = None

    def read(self) -> list[Field]:
        """Decodes all fields into a new list. Raises UnreadableHeaders if that is impossible."""
        return []

    def scan(self, name: bytes) -> bytes | None:
        """The value of `name` (lower case) in the frame. Override to find it without decoding every field.

        Raises `conflict` if the frame has more than one, and UnreadableHeaders if the frame cannot be searched.
        """
        return self.value_in(self.fields(), name)

    def holds(self, name: bytes) -> bool:
        """Whether the frame contains field `name` (lower case), even with a null value. Override like `scan`."""
        return has_name(self.fields(), name)

    def first_value_names(self) -> tuple[bytes, ...]:
        """Names (lower case) of which only the first value is authoritative."""
        return ()

    def unreadable(self, why: str) -> UnreadableHeaders:
        """The exception to raise where these headers would be judged or changed."""
        return UnreadableHeaders(UNREADABLE_RESPONSE_HEADERS if self.is_response else UNREADABLE_HEADERS, why)

    def conflict(self, name: bytes) -> UnreadableHeaders:
        """The exception to raise for a name with different values."""
        return self.unreadable(f"different values of {to_text(name)!r}")

    def value_in(self, fields: list[Field], name: bytes) -> bytes | None:
        """The value of `name` (lower case) in `fields`. Raises UnreadableHeaders for several, and for one without a text."""
        value: bytes | None = None
        is_found = False
        for field in fields:
            if not is_name(field[0], name):
                continue
            if is_found and field[1] != value:
                raise self.conflict(name)
            value = field[1]
            is_found = True
            if name in self.first_value_names():
                break
        if value is NO_TEXT:
            raise self.unreadable(f"the value of {to_text(name)!r} is not a text")
        return value

    def fields(self) -> list[Field]:
        """The current fields, in order, nulls and ambiguous names included; callers must not change the list."""
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
        value = self.get_raw(lower_name(name))
        return [] if value is None else [to_text(value)]

    def get_raw(self, name: bytes) -> bytes | None:
        if self._fields is not None:
            return self.value_in(self._fields, name)
        value = self.scan(name)
        if self._added is not None and has_name(self._added, name):
            return self.value_in(self.fields(), name)
        return value

    def only_raw(self, name: bytes) -> bytes | None:
        return self.get_raw(name)  # several are equal, or UnreadableHeaders

    def add(self, name: str, value: str) -> None:
        """Adds a field. Raises HeaderError like `set`, and if there is one with this name: peers would use only one."""
        raw = lower_name(name)
        if self.get_raw(raw) is not None and raw not in self.first_value_names():
            raise HeaderError(f"header {name} can occur only once")
        super().add(name, value)

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
        found: dict[bytes, bytes | None] = {}
        for name, value in self.fields():
            key = name.lower()
            if value is NO_TEXT:
                raise self.unreadable(f"the value of {to_text(name)!r} is not a text")
            if key not in found:
                found[key] = value
            elif found[key] != value and key not in self.first_value_names():
                raise self.conflict(key)
        return [(key, value) for key, value in found.items() if value is not None]

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except UnreadableHeaders as error:
            return f"Headers(unreadable: {error})"

    def copy(self) -> Headers:
        copied = RpcHeaders()
        copied._fields = list(self.fields())
        copied.is_changed = True
        copied.is_response = self.is_response
        return copied


def fields_of(headers: Headers) -> list[Field]:
    """The fields of any headers, for encoding. Raises HeaderError for values that cannot be encoded."""
    if isinstance(headers, RpcHeaders):
        return headers.fields()
    return [(name, value) for name, value in headers.items_raw()]


def is_changed(headers: Headers) -> bool:
    """Whether headers differ from those of the frame."""
    return not isinstance(headers, RpcHeaders) or headers.is_changed
