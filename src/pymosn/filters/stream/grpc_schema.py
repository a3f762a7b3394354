"""The services of a descriptor set, with the HTTP rules of their methods. Needs the `protobuf` library.

The types of `google.api` that are needed here are built in code, so that no further package is needed: HTTP rules are read
from the bytes of a method's options. Each schema has a pool of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pymosn.core.errors import reason
from pymosn.filters.stream.http_rules import HttpRules, Template

#: Numbers of types and labels of fields (descriptor.proto).
BOOL: Final = 8
MESSAGE: Final = 11
BYTES: Final = 12
ENUM: Final = 14
#: Integers and floating-point numbers.
NUMBERS: Final = (1, 2, 3, 4, 5, 6, 7, 13, 15, 16, 17, 18)
_REPEATED: Final = 3
#: Messages in messages that the libraries of protobuf read.
_DEEPEST: Final = 100

HTTP_BODY: Final = "google.api.HttpBody"
#: Messages that are one value in JSON, and so may be variables of a path and parameters of a query.
VALUES: Final = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "BoolValue", "StringValue", "BytesValue", "Int32Value", "Int64Value"),
        *("UInt32Value", "UInt64Value", "FloatValue", "DoubleValue"),
    )
)
_METHODS: Final = {"get": "GET", "put": "PUT", "post": "POST", "delete": "DELETE", "patch": "PATCH"}

#: A field of a message, and the fields of messages in it.
FieldPath = tuple[Any, ...]


class SchemaError(ValueError):
    """A descriptor set that cannot be used; the text has the reason."""


class GrpcMethod:
    """A method of a service."""

    def __init__(self, descriptor: Any) -> None:
        self.path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        self.input: Any = message_factory.GetMessageClass(descriptor.input_type)
        self.output: Any = message_factory.GetMessageClass(descriptor.output_type)
        self.has_request_stream: bool = descriptor.client_streaming
        self.has_response_stream: bool = descriptor.server_streaming


class Binding:
    """How one HTTP request calls a method. `body`, `response_body`: the field that is the body; None for the message.

    `has_body`: whether the request has one.
    """

    def __init__(self, method: GrpcMethod, template: Template, body: str, response_body: str) -> None:
        """Raises SchemaError for fields that the messages do not have."""
        self.method = method
        #: The fields of the messages that parameters have named, by message and name.
        self.names: dict[str, dict[str, Any]] = {}
        self.has_body = bool(body)
        input_type, output_type = method.input.DESCRIPTOR, method.output.DESCRIPTOR
        self.body: Any = None if body in ("", "*") else _top_field(input_type, body)
        self.response_body: Any = _top_field(output_type, response_body) if response_body else None
        #: The fields of the template's variables.
        self.fields: list[FieldPath] = [_bound_field(input_type, variable.path) for variable in template.variables]


class Schema(NamedTuple):
    """The methods that can be called over HTTP. `status`, `http_body`: the classes of google.rpc.Status and HttpBody."""

    rules: HttpRules[Binding]
    pool: Any
    status: Any


def fields_of(descriptor: Any) -> dict[str, Any]:
    """The fields of a message by their names, in JSON and in the .proto file."""
    return {field.json_name: field for field in descriptor.fields} | {field.name: field for field in descriptor.fields}


def is_repeated(field: Any) -> bool:
    """Whether a field is repeated, or a map."""
    known = getattr(field, "is_repeated", None)  # `label` goes away in newer releases, and is the only one in older
    return field.label == _REPEATED if known is None else bool(known)


def is_value(field: Any) -> bool:
    """Whether a field is a scalar, or a message that is one value in JSON."""
    return field.message_type is None or field.message_type.full_name in VALUES


def find_field(descriptor: Any, path: str, names: dict[str, dict[str, Any]] | None = None) -> FieldPath | None:
    """The fields of a path such as `book.author.name`, of which only the last may be repeated; None if it has none.

    `names`: keeps the fields of messages by their names, for further calls.
    """
    names = {} if names is None else names
    found: list[Any] = []
    if path.count(".") >= _DEEPEST:
        return None
    for name in path.split("."):
        if descriptor is None or (found and (is_repeated(found[-1]) or is_value(found[-1]))):
            return None
        fields = names.get(descriptor.full_name)
        if fields is None:
            fields = names[descriptor.full_name] = fields_of(descriptor)
        field = fields.get(name)
        if field is None:
            return None
        found.append(field)
        descriptor = field.message_type
    return tuple(found) if is_value(found[-1]) else None


def _bound_field(descriptor: Any, path: str) -> FieldPath:
    found = find_field(descriptor, path)
    if found is None or is_repeated(found[-1]):
        raise SchemaError(f"{descriptor.full_name} has no single value {path!r}")
    return found


def _top_field(descriptor: Any, name: str) -> Any:
    field = descriptor.fields_by_name.get(name)
    if field is None:
        raise SchemaError(f"{descriptor.full_name} has no field {name!r}")
    return field


# ---- descriptors


def _own_types() -> Any:
    """The messages of google.api and google.rpc that are read here. The package is another one, so nothing can clash."""
    file = descriptor_pb2.FileDescriptorProto(name="pymosn/http.proto", package="pymosn", syntax="proto3")
    file.dependency.append("google/protobuf/any.proto")

    def message(name: str, *fields: tuple[str, int, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = made.field.add(name=field, number=number, label=3 if repeated else 1)
            added.type = {"string": 9, "int32": 5}.get(kind, MESSAGE)
            if added.type == MESSAGE:
                added.type_name = kind

    message("Custom", ("kind", 1, "string", False), ("path", 2, "string", False))
    message(
        "Rule",
        *((name, 2 + i, "string", False) for i, name in enumerate(_METHODS)),
        ("body", 7, "string", False),
        ("custom", 8, ".pymosn.Custom", False),
        ("additional_bindings", 11, ".pymosn.Rule", True),
        ("response_body", 12, "string", False),
    )
    message("Options", ("http", 72295728, ".pymosn.Rule", False))  # the extension google.api.http
    details = ("details", 3, ".google.protobuf.Any", True)
    message("Status", ("code", 1, "int32", False), ("message", 2, "string", False), details)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_library_file("google/protobuf/any.proto"))
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _library_file(name: str) -> bytes:
    """A file of the library: descriptor sets may lack these. ImportError if it has none of that name."""
    module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    content: bytes = module.DESCRIPTOR.serialized_pb
    return content


class _PoolBuilder:
    """Adds the files of a set to a pool, each after those that it imports."""

    def __init__(self, files: Iterable[Any]) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        self._files = {file.name: file for file in files}
        self._added: set[str] = set()

    def add_all(self) -> Any:
        for name in self._files:
            self._add(name, ())
        return self.pool

    def _add(self, name: str, above: tuple[str, ...]) -> None:
        if name in self._added:
            return
        if name in above:
            raise SchemaError(f"{name} imports itself")
        file = self._files.get(name) or self._missing(name)
        for imported in file.dependency:
            self._add(imported, (*above, name))
        self._added.add(name)
        try:
            self.pool.AddSerializedFile(file.SerializeToString())
        except (TypeError, ValueError) as error:
            raise SchemaError(f"{name}: {reason(error)} (made without --include_imports?)") from None

    def _missing(self, name: str) -> Any:
        made = descriptor_pb2.FileDescriptorProto(name=name)
        if name.startswith("google/protobuf/"):
            try:
                made.ParseFromString(_library_file(name))
            except ImportError:
                raise SchemaError(f"{name} is missing") from None
        elif not name.startswith("google/api/"):  # those annotate only, unless their types are used
            raise SchemaError(f"{name} is missing: a descriptor set must be made with --include_imports")
        return made


def load_schema(content: bytes, services: list[str], maps_all: bool) -> Schema:
    """The schema of a FileDescriptorSet. `services`: full names. `maps_all`: methods without a rule are POST requests.

    Raises SchemaError.
    """
    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(content)
    except (DecodeError, RuntimeWarning) as error:
        raise SchemaError(f"not a FileDescriptorSet: {reason(error)}") from None
    if not files.file:
        raise SchemaError("the descriptor set has no files")
    pool = _PoolBuilder(files.file).add_all()
    own = _own_types()
    options = message_factory.GetMessageClass(own.FindMessageTypeByName("pymosn.Options"))
    raw = {
        f"{file.package}.{service.name}" if file.package else service.name: {
            method.name: method.options.SerializeToString() for method in service.method
        }
        for file in files.file
        for service in file.service
    }
    rules: HttpRules[Binding] = HttpRules()
    for name in services:
        if name not in raw:
            known = ", ".join(sorted(raw)) or "none"
            raise SchemaError(f"service {name} is not in the descriptor set, which has: {known}")
        for descriptor in pool.FindServiceByName(name).methods:
            method = GrpcMethod(descriptor)
            rule = options.FromString(raw[name][descriptor.name]).http
            try:
                _add_rules(rules, method, rule, maps_all)
            except ValueError as error:
                raise SchemaError(f"{method.path[1:]}: {reason(error)}") from None
    rules.prepare()
    return Schema(rules, pool, message_factory.GetMessageClass(own.FindMessageTypeByName("pymosn.Status")))


def _add_rules(rules: HttpRules[Binding], method: GrpcMethod, rule: Any, maps_all: bool) -> None:
    """Adds the rules of a method. Raises ValueError."""
    found = False
    for part in (rule, *rule.additional_bindings):
        for verb, path in _patterns(part):
            template = Template(path)
            rules.add(verb, template, Binding(method, template, part.body, part.response_body))
            found = True
    if not found and maps_all:
        template = Template(method.path)
        rules.add("POST", template, Binding(method, template, "*", ""))


def _patterns(rule: Any) -> Iterator[tuple[str, str]]:
    for key, verb in _METHODS.items():
        path = getattr(rule, key)
        if path:
            yield verb, path
    if rule.HasField("custom"):
        yield rule.custom.kind, rule.custom.path
