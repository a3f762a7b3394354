"""Calls Dubbo providers over HTTP and JSON: `POST /{service}/{method}` with a JSON array of arguments.

Dubbo identifies a method by its parameter types. By default they are derived from the values (`boolean`, `int` or `long`,
`double`, `String`, `List`, `Map`, `Object` for null); the query can override them: `?types=long,java.lang.String`. It can
also set the service's `version` and `group`.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from pymosn.api import Exchange, Reply, Transcoder
from pymosn.api.rpc import RpcRequest, RpcResponse
from pymosn.protocol.dubbo.calls import make_call, read_result
from pymosn.protocol.dubbo.values import write_long, write_value

#: Supported Java types: the descriptor, and the matching Python types of JSON values.
TYPES: Final[dict[str, tuple[str, type | tuple[type, ...]]]] = {
    "boolean": ("Z", bool),
    "byte": ("B", int),
    "short": ("S", int),
    "int": ("I", int),
    "long": ("J", int),
    "float": ("F", (int, float)),
    "double": ("D", (int, float)),
    "java.lang.Boolean": ("Ljava/lang/Boolean;", bool),
    "java.lang.Integer": ("Ljava/lang/Integer;", int),
    "java.lang.Long": ("Ljava/lang/Long;", int),
    "java.lang.Double": ("Ljava/lang/Double;", (int, float)),
    "java.lang.String": ("Ljava/lang/String;", str),
    "java.lang.Object": ("Ljava/lang/Object;", object),
    "java.util.List": ("Ljava/util/List;", list),
    "java.util.Map": ("Ljava/util/Map;", dict),
}
DOUBLE: Final = sys.float_info.max
LARGEST: Final = {"F": (2 - 2**-23) * 2.0**127, "D": DOUBLE, "Ljava/lang/Double;": DOUBLE}
BITS: Final = {"B": 8, "S": 16, "I": 32, "Ljava/lang/Integer;": 32}


class JsonToDubbo(Transcoder):
    """See the module docstring. The body limit and the timeout are those of the base class and the route."""

    upstream_protocol = "dubbo"

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """Defaults for requests that do not specify them."""

        version: str = ""
        group: str = ""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def request(self, exchange: Exchange, body: bytes) -> RpcRequest | Reply:
        head = exchange.request
        service, _, method = unquote(head.path)[1:].rpartition("/")
        if head.method != "POST":
            return answer(405, {"error": "calls are POST requests"})
        try:
            if not service or not method or "/" in service:
                raise ValueError("the path of a call is /{service}/{method}")
            arguments = arguments_of(body)
            query = {name: values[-1] for name, values in parse_qs(head.query).items()}
            names = query["types"].split(",") if "types" in query else [type_of(value) for value in arguments]
            if len(names) != len(arguments):
                raise ValueError(f"{len(names)} types for {len(arguments)} arguments")
            written = [write_argument(value, name.strip()) for value, name in zip(arguments, names, strict=True)]
        except ValueError as error:
            return answer(400, {"error": str(error)})
        types = "".join(TYPES[name.strip()][0] for name in names)
        group = query.get("group", self.config.group)
        attachments = {"group": group} if group else {}
        return make_call(service, method, types, written, query.get("version", self.config.version), attachments)

    def response(self, exchange: Exchange, reply: RpcResponse) -> Reply:
        result = read_result(reply)
        if result.error:
            return answer(reply.status, {"error": result.error})
        if result.is_exception:
            thrown = result.value if isinstance(result.value, dict) else {}
            return answer(500, {"error": thrown.get("detailMessage"), "exception": thrown.get("class")})
        return answer(200, result.value)


def answer(status: int, value: object) -> Reply:
    """A JSON response. Raises ValueError for values that JSON cannot represent."""
    try:
        body = json.dumps(value, allow_nan=False, default=in_base64, ensure_ascii=True)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return Reply(status, body, {"content-type": "application/json"})


def in_base64(value: object) -> str:
    """Binary as base64 text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be represented in JSON")


def arguments_of(body: bytes) -> list[Any]:
    """The arguments in a request's body; none if it is empty."""
    try:
        found = json.loads(body, parse_float=finite, parse_constant=finite) if body else []
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(found, list):
        raise ValueError("the body must be a JSON array of arguments")
    return found


def finite(text: str) -> float:
    """Parses a number with a point or an exponent. Raises ValueError beyond the range of a double, for NaN and Infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is not in the range of a double")
    return number


def type_of(value: object) -> str:
    """The default Java type of a parameter with `value`."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int" if -(2**31) <= value < 2**31 else "long"
    kinds: dict[type, str] = {float: "double", str: "java.lang.String", list: "java.util.List", dict: "java.util.Map"}
    return kinds.get(type(value), "java.lang.Object")


def write_argument(value: Any, name: str) -> bytes:
    """Encodes `value` as a parameter of the Java type `name`. Raises ValueError if it does not match."""
    if name not in TYPES:
        raise ValueError(f"unknown type {name!r}; supported: {', '.join(TYPES)}")
    descriptor, kinds = TYPES[name]
    if value is None and len(descriptor) > 1:
        return write_value(None)
    fits = isinstance(value, kinds)
    if not fits or (isinstance(value, bool) and kinds not in (bool, object)):
        raise ValueError(f"{json.dumps(value)[:80]} is not a valid {name}")
    if descriptor in BITS and not -(1 << BITS[descriptor] - 1) <= value < 1 << BITS[descriptor] - 1:
        raise ValueError(f"{value} is not a valid {name}")
    if descriptor in ("J", "Ljava/lang/Long;"):
        return write_long(value)
    if descriptor in LARGEST:
        if not -LARGEST[descriptor] <= value <= LARGEST[descriptor]:
            raise ValueError(f"{json.dumps(value)[:80]} is not a valid {name}")
        return write_value(float(value))
    return write_value(value)
