"""Changes of header fields by routes (key reference section 6.5)."""

from __future__ import annotations

import re
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import HeaderChanges
from pymosn.api.variables import Variable, is_known
from pymosn.core.headers import Headers, encode_name, encode_value, is_field_value, to_bytes, to_text

_VARIABLE: Final = re.compile(r"%([A-Za-z0-9_.-]+)%")
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

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        """Applies it. Appending joins values with commas, as in MOSN, except for Set-Cookie, which gets another line."""
        value = self._template.value(exchange)
        name = self.name
        if name == b"set-cookie":
            if not self._append:
                headers.remove_raw(name)
        else:
            if self._append and headers.get_raw(name) is not None:
                value = b",".join([*[to_bytes(old) for old in headers.get_all(name.decode())], value])
            headers.remove_raw(name)
        headers.add_raw(name, value)


class ChangeLevel:
    """The fields that one level (route, virtual host, table) adds and then removes."""

    def __init__(self, additions: list[HeaderAddition], removals: list[str]) -> None:
        """Raises HeaderError for a name that must not be removed."""
        self.additions = additions
        self.removals: list[bytes] = [encode_name(name).lower() for name in removals]


class LevelChanges(HeaderChanges):
    """The changes of several levels, in order."""

    def __init__(self, levels: list[ChangeLevel]) -> None:
        self._levels = levels

    def apply(self, headers: Headers, exchange: Exchange) -> None:
        for level in self._levels:
            for addition in level.additions:
                addition.apply(headers, exchange)
            for name in level.removals:
                headers.remove_raw(name)

    def changes_field(self, name: bytes) -> bool:
        for level in self._levels:
            if name in level.removals or any(addition.name == name for addition in level.additions):
                return True
        return False
