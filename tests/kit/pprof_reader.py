"""Reads profiles of pprof with Google's protobuf library, by the field numbers of profile.proto."""

import gzip
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

#: Message -> fields with number, type (or message), and whether they are repeated.
_MESSAGES: Final[dict[str, list[tuple[str, int, str, bool]]]] = {
    "ValueType": [("type", 1, "int64", False), ("unit", 2, "int64", False)],
    "Sample": [("location_id", 1, "uint64", True), ("value", 2, "int64", True)],
    "Mapping": [("id", 1, "uint64", False), ("filename", 5, "int64", False), ("has_functions", 7, "bool", False)],
    "Line": [("function_id", 1, "uint64", False), ("line", 2, "int64", False)],
    "Location": [("id", 1, "uint64", False), ("mapping_id", 2, "uint64", False), ("line", 4, "Line", True)],
    "Function": [("id", 1, "uint64", False), ("name", 2, "int64", False), ("filename", 4, "int64", False)],
    "Profile": [
        *(("sample_type", 1, "ValueType", True), ("sample", 2, "Sample", True), ("mapping", 3, "Mapping", True)),
        *(("location", 4, "Location", True), ("function", 5, "Function", True), ("string_table", 6, "string", True)),
        *(("time_nanos", 9, "int64", False), ("duration_nanos", 10, "int64", False)),
        *(("period_type", 11, "ValueType", False), ("period", 12, "int64", False), ("comment", 13, "int64", True)),
        ("default_sample_type", 14, "int64", False),
    ],
}
_TYPES: Final = {"int64": 3, "uint64": 4, "bool": 8, "string": 9}
_MESSAGE: Final = 11


class PprofProfile(NamedTuple):
    """`samples`: functions with files and lines, innermost first, and the numbers."""

    types: list[tuple[str, str]]
    samples: list[tuple[list[tuple[str, str, int]], list[int]]]
    period: tuple[str, str, int]
    seconds: float
    comments: list[str]
    default: str


def _profile_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="pprof.proto", package="pprof", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            made = message.field.add(name=field, number=number, label=3 if repeated else 1, type=_TYPES.get(kind, _MESSAGE))
            if kind not in _TYPES:
                made.type_name = f".pprof.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pprof.Profile"))


def read_pprof(data: bytes) -> PprofProfile:
    """The content of a compressed profile."""
    profile = _profile_class()()
    profile.ParseFromString(gzip.decompress(data))
    text = list(profile.string_table)
    assert text[0] == ""
    functions = {each.id: (text[each.name], text[each.filename]) for each in profile.function}
    mappings = {each.id for each in profile.mapping}
    locations = {}
    for location in profile.location:
        assert location.mapping_id in mappings
        (line,) = location.line
        locations[location.id] = (*functions[line.function_id], line.line)
    return PprofProfile(
        [(text[each.type], text[each.unit]) for each in profile.sample_type],
        [([locations[number] for number in each.location_id], list(each.value)) for each in profile.sample],
        (text[profile.period_type.type], text[profile.period_type.unit], profile.period),
        profile.duration_nanos / 1e9,
        [text[number] for number in profile.comment],
        text[profile.default_sample_type],
    )
