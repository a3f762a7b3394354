"""Changes of header fields by routes (key reference section 6.5)."""

from __future__ import annotations

import re
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import HeaderChanges
from pymosn.api.variables import Variable, is_known
from pymosn.core.headers import Headers, encode_name, encode_value, is_field_value, to_bytes, to_text

_VARIABLE: Final = re.compile(r"%([A-Za-z0-9_.:|-]+)%")
#: Characters that are invalid in a field value; decoded query parameters may contain them.
_CONTROLS: Final = bytes([*range(9), *range(10, 32), 127])


class Template:
    """Text with `%variable%` in it. A variable without a value is empty; unknown names stay as literal text."""

    def __init__(self, text: str) -> None:
        self._texts: list[str] = []
        self._variables: list[Variable] = []
        end = 0
        for match in _VARIABLE.finditer(text):
            if is_known(match.group(1)):
                self._texts.append(text[end : match.start()])
                self._variables.append(Variable(match.group(1)))
                end = match.end()
        self._last = text[end:]
        self._constant: bytes = b"" if self._variables else to_bytes(text)

    def value(self, exchange: Exchange) -> bytes:
        """The text for one exchange, without characters that are invalid in a field."""
        if not self._variables:
            return self._constant
        parts: list[str] = []
        for text, variable in zip(self._texts, self._variables, strict=True):
            parts.append(text)
            parts.append(variable.value(exchange) or "")
        parts.append(self._last)
        raw = to_bytes("".join(parts)).strip(b" \t")
        return raw if is_field_value(raw) else raw.translate(None, _CONTROLS)


class HeaderAddition:
    """A field to add to a message, or to set in it."""

    def __init__(self, name: str, value: str, append: bool) -> None:
        """Raises HeaderError if the name or value must not be sent."""
        self.name: bytes = encode_name(name).lower()
        encode_value(to_text(self.name), value)
        self._append = append
        self._template = Template(value)

    def value(self, exchange: Exchange) -> bytes:
        """The value for one exchange."""
        return self._template.value(exchange)

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        """Applies it."""
        self.put(headers, self.value(exchange))

    def overwrites(self) -> bool:
        """Whether Envoy's order applies it before those that only add."""
        return not self._append

    def put(self, headers: Headers, value: bytes) -> None:
        """Adds or sets `value`. Appending joins it with commas, as in MOSN; Set-Cookie gets another line."""
        name = self.name
        if name == b"set-cookie":
            if not self._append:
                headers.remove_raw(name)
        else:
            if self._append and headers.get_raw(name) is not None:
                value = b",".join([*[to_bytes(old) for old in headers.get_all(name.decode())], value])
            headers.remove_raw(name)
        headers.add_raw(name, value)


class HeaderAction(HeaderAddition):
    """A field to add to a message, or to set in it, in one of Envoy's ways: `append_action`."""

    def __init__(self, name: str, value: str, action: str, keeps_empty: bool) -> None:
        """`keeps_empty`: also add an empty value. Raises HeaderError like HeaderAddition."""
        super().__init__(name, value, action in ("APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT"))
        self._keeps_empty = keeps_empty
        self._needs_absence: bool = action == "ADD_IF_ABSENT"
        self._needs_presence: bool = action == "OVERWRITE_IF_EXISTS"

    def put(self, headers: Headers, value: bytes) -> None:
        if not value and not self._keeps_empty:
            return
        name = self.name
        if self._needs_absence or self._needs_presence:
            exists = headers.get_raw(name) is not None
            if exists is self._needs_absence:
                return
        if not self._append:
            headers.remove_raw(name)
        headers.add_raw(name, value)


class ChangeLevel:
    """The fields that one level (route, virtual host, table) adds and then removes."""

    def __init__(self, additions: list[HeaderAddition], removals: list[str]) -> None:
        """Raises HeaderError for a name that must not be removed."""
        self.additions = additions
        self.removals: list[bytes] = [encode_name(name).lower() for name in removals]

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        """Applies them."""
        for addition in self.additions:
            addition.apply(headers, exchange)
        for name in self.removals:
            headers.remove_raw(name)


class EnvoyLevel(ChangeLevel):
    """The fields that one level changes in Envoy's order: removes, sets, adds. Values are those after the removals."""

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        for name in self.removals:
            headers.remove_raw(name)
        values = [addition.value(exchange) for addition in self.additions]
        for sets in (True, False):
            for addition, value in zip(self.additions, values, strict=True):
                if addition.overwrites() is sets:
                    addition.put(headers, value)


class LevelChanges(HeaderChanges):
    """The changes of several levels, in order."""

    def __init__(self, levels: list[ChangeLevel]) -> None:
        self._levels = levels

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        for level in self._levels:
            level.apply(headers, exchange)

    def changes_field(self, name: bytes) -> bool:
        for level in self._levels:
            if name in level.removals or any(addition.name == name for addition in level.additions):
                return True
        return False
