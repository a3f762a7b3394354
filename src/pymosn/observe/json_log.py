"""Access logs in JSON: an object per line, with a format for each member."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pymosn.api.exchange import Exchange
from pymosn.core.clock import Clock
from pymosn.observe.access_log import Format, LineMaker, compile_format
from pymosn.observe.variables import NOTHING

#: Nested objects and lists of a format.
DEEPEST: Final = 8

_Value = Callable[[Exchange], str]
_NULL: Final = "null"


class JsonFormat:
    """A compiled format. `warnings`: as of `Format`, with the path of the member."""

    def __init__(self, members: Mapping[str, Any], omit_empty: bool) -> None:
        """Raises ValueError with the member and its error."""
        self.warnings: list[str] = []
        self._omit_empty = omit_empty
        self._root = self._compiled(members, "", 0)

    def bind(self, clock: Clock, listener_name: str = "", listener_type: str = "") -> LineMaker:
        """The function that formats the line, without its end, of an exchange on that listener."""
        return self._bound(self._root, clock, listener_name, listener_type)

    def _compiled(self, value: Any, path: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError(f"json_format: {path} is nested too deeply")
        if isinstance(value, dict):
            members = [(str(key), item) for key, item in value.items()]
            return {key: self._compiled(item, f"{path}.{key}" if path else key, depth + 1) for key, item in members}
        if isinstance(value, list):
            return [self._compiled(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        if not isinstance(value, str):
            return json.dumps(value)
        if not value:
            return '""'
        try:
            made = compile_format(value, in_json=True)
        except ValueError as error:
            raise ValueError(f"json_format: {path}: {error}") from None
        self.warnings += [f"{path}: {warning}" for warning in made.warnings]
        return made

    def _bound(self, value: Any, clock: Clock, listener_name: str, listener_type: str) -> _Value:
        if isinstance(value, str):
            return lambda exchange: value
        if isinstance(value, Format):
            line = value.bind(clock, listener_name, listener_type)
            return _number(line) if value.number() else _text(line)
        if isinstance(value, list):
            items = [self._bound(item, clock, listener_name, listener_type) for item in value]
            return lambda exchange: "[" + ",".join([item(exchange) for item in items]) + "]"
        members = [
            (f"{json.dumps(key)}:", self._bound(item, clock, listener_name, listener_type)) for key, item in value.items()
        ]
        omits = self._omit_empty

        def make(exchange: Exchange) -> str:
            found = [(key, item(exchange)) for key, item in members]
            return "{" + ",".join([key + text for key, text in found if not (omits and text == _NULL)]) + "}"

        return make


def _number(line: LineMaker) -> _Value:
    def value(exchange: Exchange) -> str:
        text = line(exchange)
        return text if text.lstrip("-").isdecimal() else _NULL

    return value


def _text(line: LineMaker) -> _Value:
    """A text, which `line` has escaped; null without one."""

    def value(exchange: Exchange) -> str:
        text = line(exchange)
        return _NULL if text == NOTHING else f'"{text}"'

    return value
