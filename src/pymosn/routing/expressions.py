"""Conditions in CEL, the Common Expression Language, over the attributes that MOSN provides.

`request.path`, `.url_path`, `.method`, `.host`, `.scheme`, `.query`, `.headers` and `.query_params` (maps; several values
of one name are joined with commas), `.size`, `.useragent`, `.referer`, `.id`; `source.ip`, `source.port`;
`destination.ip`, `destination.port`; `connection.id`; `context.protocol`. The library is an optional extra, `pymosn[cel]`,
imported only if an expression is configured.
"""

from __future__ import annotations

from typing import Any

from pymosn.api.exchange import Exchange
from pymosn.api.routing import RouteMatcher
from pymosn.api.variables import query_pairs
from pymosn.core.errors import describe
from pymosn.core.headers import to_bytes, to_text


class ExpressionError(ValueError):
    """Not a valid expression, or the CEL library is missing."""


class Expression(RouteMatcher):
    """An expression is true. If it cannot be evaluated, for example because of a missing header, it does not match."""

    def __init__(self, source: str) -> None:
        """Raises ExpressionError."""
        try:
            import celpy
            from celpy.celparser import CELParseError
        except ImportError:
            raise ExpressionError("expressions need the extra pymosn[cel], which is not installed") from None
        self._source = source
        self._celpy: Any = celpy
        environment = celpy.Environment()
        try:
            self._program: Any = environment.program(environment.compile(source))
        except CELParseError as error:
            raise ExpressionError(str(error.args[0] if error.args else error).strip().partition("\n")[0]) from None
        except Exception as error:  # the library lets others through
            raise ExpressionError(describe(error)) from None

    def matches(self, exchange: Exchange) -> bool:
        try:
            result = self._program.evaluate(self._celpy.json_to_cel(attributes(exchange)))
        except Exception:  # besides its own error, the library lets others through, such as those of its RE2
            return False
        return isinstance(result, self._celpy.celtypes.BoolType) and bool(result)

    def text(self) -> str:
        return self._source


def attributes(exchange: Exchange) -> dict[str, object]:
    """The attributes of an exchange for expressions."""
    head = exchange.request
    headers = _as_map(head.headers.items())
    connection = exchange.connection
    query = head.query
    return {
        "request": {
            "path": to_text(head.raw_target()),
            "url_path": head.path,
            "method": head.method,
            "host": head.host,
            "scheme": head.scheme,
            "query": query,
            "headers": headers,
            "query_params": _as_map(query_pairs(head.raw_query)),
            "size": int(head.content_length),
            "useragent": headers.get("user-agent", ""),
            "referer": headers.get("referer", ""),
            "id": headers.get("x-request-id", ""),
        },
        "source": {"ip": exchange.remote_ip, "port": 0 if exchange.forwarded_ip else int(connection.remote_port)},
        "destination": {"ip": connection.local_ip, "port": int(connection.local_port)},
        "connection": {"id": int(connection.id)},
        "context": {"protocol": exchange.protocol},
    }


def _as_map(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The values by name, joined with commas. Bytes that are not UTF-8 are replaced: the library cannot handle them."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(_unicode(name), []).append(_unicode(value))
    return {name: ",".join(values) for name, values in found.items()}


def _unicode(text: str) -> str:
    return to_bytes(text).decode("utf-8", "replace")
