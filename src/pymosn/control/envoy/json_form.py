"""Messages of xDS as JSON, as Envoy writes them: field names of the protos, and without secrets.

A secret is a field that the protos mark as sensitive, the value of a header that carries credentials, and what
`core/redaction.py` finds in a text. A message whose type is not known here is shown as Base64.
"""

from __future__ import annotations

import base64
import json
import pkgutil
import re
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from udpa.annotations import sensitive_pb2

from pymosn.control.xds.convert.messages import MODULES
from pymosn.core.redaction import redacted_text
from pymosn.core.secrets import is_credential

#: Shown instead of a secret, as in Envoy.
REDACTED: Final = "[redacted]"
_REDACTED_BYTES: Final = base64.b64encode(REDACTED.encode()).decode()
_ANY: Final = "google.protobuf.Any"
_TIMES: Final = ("google.protobuf.Duration", "google.protobuf.Timestamp")
#: The packages of xds-protos. Names of types are the control plane's choice, and nothing else may be imported.
_PACKAGE: Final = re.compile(r"(?:envoy|udpa|xds)(?:\.[a-z][a-z0-9_]*)+")
#: Messages with the name and the value of a header or parameter.
_PAIRS: Final = {
    "envoy.config.core.v3.HeaderValue": "key",
    "envoy.config.route.v3.HeaderMatcher": "name",
    "envoy.config.route.v3.QueryParameterMatcher": "name",
}
_TEXTS: Final = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT64)
_FIXED: Final = (FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64)
#: Maximum depth of messages in each other.
_DEEPEST: Final = 100


class TooDeepError(ValueError):
    """Messages are nested too deeply to be shown."""


def packed_form(name: str, body: bytes) -> dict[str, Any]:
    """A serialized message as the JSON of an `Any`. `name`: of its type. TooDeepError."""
    return _any(f"type.googleapis.com/{name}", body, False, 0)


def message_form(message: Message, hidden: bool = False, depth: int = 0) -> dict[str, Any]:
    """A message as JSON. `hidden`: all of it is a secret. TooDeepError."""
    _require_depth(depth)
    name_field = _PAIRS.get(message.DESCRIPTOR.full_name, "")
    is_pair = bool(name_field) and is_credential(getattr(message, name_field))
    shown: dict[str, Any] = {}
    for field, value in message.ListFields():
        is_hidden = hidden or _is_sensitive(field) or (is_pair and field.name != name_field)
        shown[field.name] = _field(field, value, is_hidden, depth)
    return shown


def _require_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise TooDeepError("messages are nested too deeply")


def _field(field: FieldDescriptor, value: Any, hidden: bool, depth: int) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        item = kind.fields_by_name["value"]
        return {_key(key): _value(item, value[key], hidden, depth) for key in sorted(value)}
    if field.is_repeated and kind is not None and _is_own_entry(kind):
        return {item.key: item.value for item in value}
    if field.is_repeated:
        return [_value(field, item, hidden, depth) for item in value]
    return _value(field, value, hidden, depth)


def _is_own_entry(kind: Descriptor) -> bool:
    """Whether it is an entry of a map in one of `convert/own_types.py`, which are repeated messages on the wire."""
    return bool(kind.file.name.startswith("pymosn/")) and bool(kind.name.endswith("Entry"))


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _value(field: FieldDescriptor, value: Any, hidden: bool, depth: int) -> Any:
    if field.message_type is not None:
        return _inner(field.message_type, value, hidden, depth)
    if field.enum_type is not None:
        found = field.enum_type.values_by_number.get(value)
        return value if found is None else found.name
    if isinstance(value, str):
        return REDACTED if hidden else redacted_text(value)
    if isinstance(value, bytes):
        return _REDACTED_BYTES if hidden else base64.b64encode(value).decode()
    if isinstance(value, float):
        return _number(value)
    return str(value) if field.type in (*_TEXTS, *_FIXED) else value


def _number(value: float) -> float | str:
    if value != value:
        return "NaN"
    return ("Infinity" if value > 0 else "-Infinity") if value in (float("inf"), float("-inf")) else value


def _inner(kind: Descriptor, value: Any, hidden: bool, depth: int) -> Any:
    if kind.full_name == _ANY:
        return _any(value.type_url, value.value, hidden, depth + 1)
    if kind.full_name.startswith("google.protobuf."):
        try:
            shown = json_format.MessageToDict(value)
        except (TypeError, ValueError, json_format.Error):
            # A duration out of range, or a number that JSON does not have. Which texts are secrets is not known then.
            return message_form(value, hidden or kind.full_name not in _TIMES, depth + 1)
        return _hidden(shown) if hidden else json_shown(shown)
    return message_form(value, hidden, depth + 1)


def _any(url: str, body: bytes, hidden: bool, depth: int) -> dict[str, Any]:
    _require_depth(depth)
    name = url.rpartition("/")[2]
    kind = message_type(name)
    if kind is not None:
        message = kind()
        try:
            message.ParseFromString(body)
        except DecodeError:
            return {"@type": url, "value": _REDACTED_BYTES if hidden else base64.b64encode(body).decode()}
        if name.startswith("google.protobuf."):
            return {"@type": url, "value": _inner(message.DESCRIPTOR, message, hidden, depth)}
        return {"@type": url, **message_form(message, hidden, depth)}
    return {"@type": url, "value": _REDACTED_BYTES if hidden else base64.b64encode(body).decode()}


@lru_cache(4096)
def _is_sensitive(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().Extensions[sensitive_pb2.sensitive])


@lru_cache(4096)
def message_type(name: str) -> type[Message] | None:
    """The class of a message of xds-protos, of ours, or a well-known one, imported now; None if there is none."""
    found = _loaded(name)
    if found is None and name in MODULES:
        found = getattr(import_module(MODULES[name]), name.rpartition(".")[2])
    package, _, _ = name.rpartition(".")
    if found is None and _PACKAGE.fullmatch(package):
        try:
            folder = import_module(package)
            for module in pkgutil.iter_modules(folder.__path__):
                if module.name.endswith("_pb2") and found is None:
                    import_module(f"{package}.{module.name}")
                    found = _loaded(name)
        except (ImportError, AttributeError, TypeError):
            return None
    return found


def _loaded(name: str) -> type[Message] | None:
    try:
        found: type[Message] = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    except KeyError:
        return None
    return found


def load_types(value: object) -> None:
    """Imports the types of all `@type` in a JSON-like value, so that `json_format` can read it."""
    if isinstance(value, dict):
        if isinstance(value.get("@type"), str):
            message_type(value["@type"].rpartition("/")[2])
        for item in value.values():
            load_types(item)
    elif isinstance(value, list):
        for item in value:
            load_types(item)


#: Fields of the protos that are sensitive, for JSON that was never a message.
_SENSITIVE: Final = frozenset(
    ("private_key", "privateKey", "password", "session_ticket_keys", "sessionTicketKeys", "generic_secret", "genericSecret")
)


def json_shown(value: Any) -> Any:
    """JSON of a message, such as a bootstrap, without its secrets and with the same structure."""
    if isinstance(value, dict):
        name = value.get("key", value.get("name"))
        is_pair = isinstance(name, str) and is_credential(name)
        return {
            key: _hidden(item) if key in _SENSITIVE or (is_pair and key not in ("key", "name")) else json_shown(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [json_shown(item) for item in value]
    return redacted_text(value) if isinstance(value, str) else value


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "@type" else _hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return REDACTED if isinstance(value, str) else value


def as_text(value: Any) -> str:
    """JSON as Envoy indents it."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
