"""The messages of a gRPC call, from a path's variables, the query and a JSON body. Needs the `protobuf` library."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from google.protobuf import json_format
from google.protobuf.message import EncodeError

from pymosn.core.errors import reason
from pymosn.core.json_text import parse_json
from pymosn.filters.stream.grpc_schema import (
    BOOL,
    BYTES,
    ENUM,
    HTTP_BODY,
    NUMBERS,
    Binding,
    FieldPath,
    find_field,
    is_repeated,
)
from pymosn.filters.stream.http_rules import Match, decoded

_BOOLS: Final = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
#: Other texts for floats and doubles; the library refuses them for other numbers.
_SPECIAL: Final = ("NaN", "Infinity", "-Infinity")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


class InvalidRequest(ValueError):
    """A request that is not a call; the text is for the client. `status`: HTTP's."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class ReadOptions(NamedTuple):
    """`ignored`: query parameters to skip. The others: whether unknown parameters, and unknown fields, are skipped too."""

    ignored: Collection[str] = ()
    ignores_parameters: bool = False
    ignores_fields: bool = False


def is_raw(binding: Binding) -> bool:
    """Whether the body of the request is the content of a google.api.HttpBody, not JSON."""
    kind = binding.method.input.DESCRIPTOR if binding.body is None else binding.body.message_type
    return binding.has_body and kind is not None and kind.full_name == HTTP_BODY


def messages_of(
    match: Match[Binding], query: bytes, body: bytes, content_type: str, options: ReadOptions, pool: Any
) -> list[bytes]:
    """The messages of the call that a request is mapped to, encoded. Raises InvalidRequest."""
    binding = match.target
    made: list[Any] = []
    for value in _bodies(binding, body, content_type):
        message = binding.method.input()
        _read_body(message, binding, value, content_type, options, pool)
        made.append(message)
    parameters = _parameters(binding, query, options)
    for message in made:
        for path, texts in parameters:
            _set(message, path, texts, pool)
        for path, variable, raw in zip(binding.fields, match.template.variables, match.values, strict=True):
            try:
                text = decoded(raw, variable.has_many)
            except ValueError:
                raise InvalidRequest(f"{variable.path}: not UTF-8") from None
            _set(message, path, [text], pool)
    try:
        return [message.SerializeToString() for message in made]
    except EncodeError as error:  # a required field of proto2
        raise InvalidRequest(reason(error)) from None


# ---- the body


def _bodies(binding: Binding, body: bytes, content_type: str) -> list[Any]:
    """The JSON values of the messages: one, or the items of an array for a stream. Bytes for an HttpBody."""
    if not binding.has_body:
        if body:
            raise InvalidRequest("this method takes no body")
        return [None]
    if is_raw(binding):
        return [body]
    kind = content_type.partition(";")[0].strip().lower()
    if body and kind and kind != "application/json" and not kind.endswith("+json"):
        raise InvalidRequest(f"the body must be application/json, not {kind}", 415)
    value: Any = {} if binding.body is None else None
    if body.strip():
        try:
            value = parse_json(body)
        except ValueError as error:
            raise InvalidRequest(f"the body is not valid JSON: {reason(error)}") from None
    elif binding.method.has_request_stream:
        return []
    if not binding.method.has_request_stream:
        return [value]
    if not isinstance(value, list):
        raise InvalidRequest("the body must be a JSON array: the method takes a stream of messages")
    return value


def _read_body(message: Any, binding: Binding, value: Any, content_type: str, options: ReadOptions, pool: Any) -> None:
    if is_raw(binding):
        target = message if binding.body is None else getattr(message, binding.body.name)
        target.data = value
        target.content_type = content_type
    elif binding.body is not None:
        if value is not None:
            _parse({binding.body.json_name: value}, message, options.ignores_fields, pool)
    elif binding.has_body:
        if not isinstance(value, dict) and not _is_one_value(message):
            raise InvalidRequest("the body must be a JSON object")
        _parse(value, message, options.ignores_fields, pool)


def _is_one_value(message: Any) -> bool:
    """Whether the JSON of a message need not be an object."""
    return str(message.DESCRIPTOR.full_name).startswith("google.protobuf.")


def _parse(value: Any, message: Any, ignores_unknown: bool, pool: Any) -> None:
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=ignores_unknown, descriptor_pool=pool)
    except json_format.ParseError as error:
        raise InvalidRequest(reason(error)) from None
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:  # what the library does not expect
        raise InvalidRequest(f"the JSON does not fit {message.DESCRIPTOR.full_name}: {reason(error)}") from None


# ---- path and query


def _parameters(binding: Binding, query: bytes, options: ReadOptions) -> list[tuple[FieldPath, list[str]]]:
    """The fields that the query sets, and their texts."""
    found: dict[str, tuple[FieldPath, list[str]]] = {}
    for part in query.split(b"&"):
        if not part:
            continue
        raw_name, _, raw_value = part.partition(b"=")
        try:
            name, text = _text(raw_name), _text(raw_value)
        except ValueError:
            raise InvalidRequest("a query parameter is not UTF-8") from None
        if name in options.ignored:
            continue
        path = _parameter_field(binding, name)
        if path is None:
            if not options.ignores_parameters:
                raise InvalidRequest(f"unknown query parameter {name!r}")
            continue
        _, texts = found.setdefault(".".join(field.name for field in path), (path, []))
        texts.append(text)
        if len(texts) > 1 and not is_repeated(path[-1]):
            raise InvalidRequest(f"query parameter {name!r} is given more than once")
    return list(found.values())


def _parameter_field(binding: Binding, name: str) -> FieldPath | None:
    """The field that a parameter sets; None if the query cannot set it: path and body take precedence."""
    if binding.has_body and binding.body is None:
        return None
    path = find_field(binding.method.input.DESCRIPTOR, name, binding.names)
    if path is None or path in binding.fields or path[0] == binding.body:
        return None
    return path


def _text(raw: bytes) -> str:
    """A name or value of the query, decoded. Raises ValueError unless it is UTF-8."""
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode()


def _set(message: Any, path: FieldPath, texts: list[str], pool: Any) -> None:
    """Sets a field from text."""
    leaf = path[-1]
    for field in path[:-1]:
        message = getattr(message, field.name)
        message.SetInParent()
    try:
        values = [_value(leaf, text) for text in texts]
        value = {leaf.json_name: values if is_repeated(leaf) else values[0]}
        json_format.ParseDict(value, message, descriptor_pool=pool)
    except (json_format.ParseError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{'.'.join(field.name for field in path)}: {reason(error)}") from None


def _value(field: Any, text: str) -> Any:
    """The JSON value for a text; numbers, bytes and names of enums may be texts in JSON too. Raises ValueError.

    The library reads what JSON does not have: digits of other scripts, `1_000`, `inf`, and base64 with anything in it.
    """
    wrapper = None if field.message_type is None else field.message_type.fields_by_name.get("value")
    kind = field.type if wrapper is None else wrapper.type
    if kind == BOOL:
        if text not in _BOOLS:
            raise ValueError(f"{text!r} is neither true nor false")
        return _BOOLS[text]
    if kind == BYTES:
        if _BASE64.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not base64")
    elif kind in NUMBERS and (_NUMBER.fullmatch(text) is None or math.isinf(float(text))) and text not in _SPECIAL:
        raise ValueError(f"{text!r} is not a number" if text else "empty")
    elif kind == ENUM and not text:
        raise ValueError("empty")
    return text
