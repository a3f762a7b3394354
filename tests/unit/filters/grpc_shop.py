"""A service with HTTP rules as a descriptor set, written by hand, and classes for its messages."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}

#: Name: number, type, whether it is repeated.
FIELDS: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Book": {
        "name": (1, "string", False),
        "title": (2, "string", False),
        "pages": (3, "int32", False),
        "big_number": (4, "int64", False),
        "price": (5, "double", False),
        "cover": (6, "bytes", False),
        "in_print": (7, "bool", False),
        "genre": (8, ".shop.Genre", False),
        "authors": (9, ".shop.Author", True),
        "printed": (10, ".google.protobuf.Timestamp", False),
        "tags": (11, "string", True),
        "extra": (12, ".google.protobuf.Struct", False),
    },
    "Author": {"name": (1, "string", False), "born": (2, "int32", False)},
    "GetBook": {"name": (1, "string", False), "view": (2, ".shop.Genre", False)},
    "ListBooks": {
        "parent": (1, "string", False),
        "genres": (2, ".shop.Genre", True),
        "author": (3, ".shop.Author", False),
        "since": (4, ".google.protobuf.Timestamp", False),
        "max_price": (5, ".google.protobuf.DoubleValue", False),
        "all": (6, "bool", False),
        "ids": (7, "int64", True),
        "only_signed": (8, ".google.protobuf.BoolValue", False),
        "raw": (9, "bytes", False),
        "mask": (10, ".google.protobuf.FieldMask", False),
    },
    "Books": {"books": (1, ".shop.Book", True), "next": (2, "string", False), "total": (3, "int32", False)},
    "PutBook": {"shelf": (1, "string", False), "book": (2, ".shop.Book", False), "dry_run": (3, "bool", False)},
    "Upload": {"name": (1, "string", False), "file": (2, ".google.api.HttpBody", False)},
}

GENRES = ["UNKNOWN", "NOVEL", "POETRY"]


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def rule(
    body: str = "", response_body: str = "", custom: tuple[str, str] | None = None, also: tuple[bytes, ...] = (), **path: str
) -> bytes:
    """A `google.api.HttpRule`, encoded."""
    out = b"".join(
        _field(2 + ["get", "put", "post", "delete", "patch"].index(verb), text.encode()) for verb, text in path.items()
    )
    if body:
        out += _field(7, body.encode())
    if custom:
        out += _field(8, _field(1, custom[0].encode()) + _field(2, custom[1].encode()))
    if response_body:
        out += _field(12, response_body.encode())
    return out + b"".join(_field(11, one) for one in also)


#: Name: input, output, whether requests and responses are streams, rule.
METHODS: dict[str, tuple[str, str, bool, bool, bytes]] = {
    "GetBook": (
        *(".shop.GetBook", ".shop.Book", False, False),
        rule(get="/v1/{name=shelves/*/books/*}", also=(rule(get="/v1/books/{name}"),)),
    ),
    "ListBooks": (".shop.ListBooks", ".shop.Books", False, False, rule(get="/v1/{parent=shelves/*}/books")),
    "ListTitles": (".shop.ListBooks", ".shop.Books", False, False, rule(get="/v1/titles", response_body="books")),
    "CountBooks": (".shop.ListBooks", ".shop.Books", False, False, rule(get="/v1/count", response_body="total")),
    "CreateBook": (".shop.PutBook", ".shop.Book", False, False, rule("book", post="/v1/{shelf=shelves/*}/books")),
    "ReplaceBook": (".shop.Book", ".shop.Book", False, False, rule("*", put="/v1/{name=books/**}")),
    "PatchBook": (".shop.PutBook", ".shop.Book", False, False, rule("book", patch="/v1/{book.name=books/*}")),
    "DeleteBook": (".shop.GetBook", ".google.protobuf.Empty", False, False, rule(delete="/v1/{name=books/*}")),
    "MoveBook": (".shop.GetBook", ".shop.Book", False, False, rule("*", post="/v1/{name=books/*}:move")),
    "PurgeBook": (".shop.GetBook", ".shop.Book", False, False, rule(custom=("PURGE", "/v1/{name=books/*}"))),
    "WatchBooks": (".shop.ListBooks", ".shop.Book", False, True, rule(get="/v1/watch")),
    "AddBooks": (".shop.PutBook", ".shop.Books", True, False, rule("*", post="/v1/{shelf=shelves/*}/books:add")),
    "Upload": (".shop.Upload", ".google.api.HttpBody", False, False, rule("file", post="/v1/files/{name}")),
    "Download": (".shop.GetBook", ".google.api.HttpBody", False, True, rule(get="/v1/files/{name}")),
    "Unruled": (".shop.GetBook", ".shop.Book", False, False, b""),
}


def descriptor_set(has_imports: bool = True, methods: dict[str, Any] | None = None) -> Any:
    """The FileDescriptorSet. `has_imports`: whether it has the files of google.protobuf, as with --include_imports."""
    files = descriptor_pb2.FileDescriptorSet()
    body = files.file.add(name="google/api/httpbody.proto", package="google.api", syntax="proto3")
    body.dependency.append("google/protobuf/any.proto")
    _message(body, "HttpBody", {"content_type": (1, "string", False), "data": (2, "bytes", False)})
    file = files.file.add(name="shop.proto", package="shop", syntax="proto3")
    known = ["timestamp", "struct", "wrappers", "field_mask", "empty"]
    file.dependency.extend(["google/api/httpbody.proto", "google/api/annotations.proto"])
    file.dependency.extend(f"google/protobuf/{name}.proto" for name in known)
    if has_imports:
        for name in [*known, "any"]:
            module = __import__(f"google.protobuf.{name}_pb2", fromlist=["DESCRIPTOR"])
            module.DESCRIPTOR.CopyToProto(files.file.add())
    genre = file.enum_type.add(name="Genre")
    for number, name in enumerate(GENRES):
        genre.value.add(name=name, number=number)
    for name, fields in FIELDS.items():
        _message(file, name, fields)
    service = file.service.add(name="Shop")
    for name, (takes, gives, has_requests, has_responses, http) in (METHODS if methods is None else methods).items():
        method = service.method.add(name=name, input_type=takes, output_type=gives)
        method.client_streaming, method.server_streaming = has_requests, has_responses
        if http:
            method.options.MergeFromString(_field(72295728, http))
    return files


def _message(file: Any, name: str, fields: dict[str, tuple[int, str, bool]]) -> None:
    made = file.message_type.add(name=name)
    for field, (number, kind, is_repeated) in fields.items():
        added = made.field.add(name=field, number=number, label=3 if is_repeated else 1)
        if kind in _TYPES:
            added.type = _TYPES[kind]
        else:
            added.type = 14 if kind.endswith("Genre") else 11
            added.type_name = kind


def classes() -> dict[str, Any]:
    """The classes of the messages, in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_set()
    pool.Add(descriptor_pb2.FileDescriptorProto(name="google/api/annotations.proto"))
    waiting = list(files.file)
    done = {"google/api/annotations.proto"}
    while waiting:
        file = waiting.pop(0)
        if set(file.dependency) <= done:
            pool.Add(file)
            done.add(file.name)
        else:
            waiting.append(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shop.{name}")) for name in FIELDS} | {
        "HttpBody": message_factory.GetMessageClass(pool.FindMessageTypeByName("google.api.HttpBody"))
    }
