"""JSON from the messages and the status of a gRPC response. Needs the `protobuf` library."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from pymosn.api.grpc import MESSAGE, status_of
from pymosn.core.errors import reason
from pymosn.core.headers import Headers
from pymosn.core.json_text import write_json
from pymosn.filters.stream.grpc_schema import HTTP_BODY, Binding, Schema, is_repeated

DETAILS: Final = b"grpc-status-details-bin"


class InvalidReply(ValueError):
    """A response that is not one of the method."""


class PrintOptions(NamedTuple):
    """How messages are printed."""

    add_whitespace: bool = False
    always_print_primitive_fields: bool = False
    always_print_enums_as_ints: bool = False
    preserve_proto_field_names: bool = False


class Content(NamedTuple):
    """A body with its type."""

    body: bytes
    content_type: str


class Printer:
    """Prints the messages of one schema."""

    def __init__(self, schema: Schema, options: PrintOptions) -> None:
        self._schema = schema
        self._options = options

    def content(self, binding: Binding, data: bytes) -> Content:
        """The body of a response with one message. Raises InvalidReply."""
        message, part = self._read(binding, data)
        if is_raw(binding):
            return Content(part.data, part.content_type or "application/octet-stream")
        return Content(self._text(self._shown(binding, message)), "application/json")

    def item(self, binding: Binding, data: bytes) -> bytes:
        """One message of a stream as JSON on one line, or the content of an HttpBody. Raises InvalidReply."""
        message, part = self._read(binding, data)
        if is_raw(binding):
            content: bytes = part.data
            return content
        return write_json(self._shown(binding, message))

    def _read(self, binding: Binding, data: bytes) -> tuple[Any, Any]:
        """The message, and the part of it that is the body."""
        try:
            message = binding.method.output.FromString(data)
        except DecodeError as error:
            raise InvalidReply(f"not a {binding.method.output.DESCRIPTOR.full_name}: {reason(error)}") from None
        return message, message if binding.response_body is None else getattr(message, binding.response_body.name)

    def _shown(self, binding: Binding, message: Any) -> Any:
        value = self._value(message)
        field = binding.response_body
        if field is None:
            return value
        name = field.name if self._options.preserve_proto_field_names else field.json_name
        if name in value:
            return value[name]
        if is_repeated(field):
            is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
            return {} if is_map else []
        return self._value(getattr(message, field.name)) if field.message_type is not None else self._default(message, name)

    def _default(self, message: Any, name: str) -> Any:
        options = self._options._replace(always_print_primitive_fields=True)
        return Printer(self._schema, options)._value(type(message)()).get(name)

    def _value(self, message: Any) -> Any:
        options = self._options
        try:
            return json_format.MessageToDict(
                message,
                always_print_fields_with_no_presence=options.always_print_primitive_fields,
                preserving_proto_field_name=options.preserve_proto_field_names,
                use_integers_for_enums=options.always_print_enums_as_ints,
                descriptor_pool=self._schema.pool,
            )
        except (json_format.SerializeToJsonError, TypeError, ValueError) as error:
            # An unknown type in an Any, a bad Timestamp.
            raise InvalidReply(f"{message.DESCRIPTOR.full_name} cannot be JSON: {reason(error)}") from None

    def _text(self, value: Any) -> bytes:
        if self._options.add_whitespace:
            return json.dumps(value, indent=1, allow_nan=False).encode()
        return write_json(value)

    def error(self, fields: Headers) -> bytes:
        """The google.rpc.Status in headers or trailers, as JSON on one line."""
        status = max(int(status_of(fields)), 0)
        text = unquote_to_bytes(fields.get_raw(MESSAGE) or b"").decode("utf-8", "replace")
        found: dict[str, Any] = {"code": status, "message": text}
        details = self._details(fields.get_raw(DETAILS))
        if details:
            found["details"] = details
        return write_json(found)

    def _details(self, raw: bytes | None) -> list[Any]:
        if not raw:
            return []
        try:
            message = self._schema.status.FromString(base64.b64decode(raw + b"=" * (-len(raw) % 4)))
        except (binascii.Error, ValueError, DecodeError):
            return []
        return [self._detail(entry) for entry in message.details]

    def _detail(self, entry: Any) -> Any:
        try:
            return self._value(entry)
        except InvalidReply:  # of a type that is not in the descriptor set
            return {"@type": entry.type_url, "value": base64.b64encode(entry.value).decode()}


def is_raw(binding: Binding) -> bool:
    """Whether the body of the response is the content of a google.api.HttpBody, not JSON."""
    field = binding.response_body
    kind = binding.method.output.DESCRIPTOR if field is None else field.message_type
    return kind is not None and kind.full_name == HTTP_BODY and (field is None or not is_repeated(field))
