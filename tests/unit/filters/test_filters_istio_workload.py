"""Metadata of workloads in headers: as Istio's proxy writes them, and from peers that send anything."""

import base64

import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from istio_kit import node

from pymosn.core.proto_wire import message
from pymosn.filters.istio.workload import (
    MAX_FIELDS,
    MAX_HEADER,
    MAX_NAME,
    NO_WORKLOAD,
    REMEMBERED,
    Peers,
    Workload,
    header_of,
    metadata_of,
    workload_from,
    workload_in,
    workload_of,
)

ECHO = Workload("echo", "default", "c1", "echo", "v1", "echo", "v1", "echo-0", "deployment")


def struct_of(header: str) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    found.ParseFromString(base64.b64decode(header, validate=True))
    return found


def packed(body: bytes) -> str:
    return base64.b64encode(body).decode()


def spliced(cut: int, put: bytes) -> bytes:
    """Valid metadata up to `cut`, then other bytes, then the rest."""
    body = base64.b64decode(header_of(ECHO))
    return body[:cut] + put + body[cut:]


def nested(levels: int) -> str:
    inner = struct_pb2.Struct()
    inner["WORKLOAD_NAME"] = "deep"
    for _ in range(levels):
        outer = struct_pb2.Struct()
        outer["LABELS"] = inner
        inner = outer
    return packed(inner.SerializeToString())


def test_the_header_is_a_struct_with_the_keys_of_a_node() -> None:
    assert workload_of(metadata_of(node("echo"))) == ECHO
    assert dict(struct_of(header_of(ECHO)).items()) == {
        "CLUSTER_ID": "c1",
        "LABELS": struct_of(header_of(ECHO))["LABELS"],
        "NAME": "echo-0",
        "NAMESPACE": "default",
        "OWNER": "kubernetes://apis/apps/v1/namespaces/default/deployments/echo",
        "WORKLOAD_NAME": "echo",
    }
    assert dict(struct_of(header_of(ECHO))["LABELS"].items()) == {
        "app": "echo",
        "service.istio.io/canonical-name": "echo",
        "service.istio.io/canonical-revision": "v1",
        "version": "v1",
    }
    assert workload_from(header_of(ECHO)) == ECHO
    assert workload_from(header_of(ECHO).rstrip("=")) == ECHO
    assert dict(struct_of(header_of(NO_WORKLOAD)).items()).keys() == {"LABELS"}


def test_additional_labels_are_sent_and_read_if_both_sides_want_them() -> None:
    sent = workload_of(metadata_of(node("echo")), ["role", "absent"])
    assert sent.labels == (("role", "r"),)
    assert workload_from(header_of(sent), ["role"]) == sent
    assert workload_from(header_of(sent)) == ECHO


@pytest.mark.parametrize(
    "header",
    [
        "",
        "%%%",
        "Zm9",
        "é" * 8,
        "A" * (MAX_HEADER + 1),
        packed(b"\x0a\xff\xff\xff\xff\x0f"),
        packed(b"\x0f"),
        packed(b"\x0a\x04\x0a\x02\xff\xfe"),
        nested(40),
        packed(message(1, message(1, b"NAME") + message(2, message(2, b"abc")))),
        packed(message(1, b"") * (MAX_FIELDS + 1)),
        packed(message(1, message(1, b"L") + message(2, message(6, message(1, b"") * MAX_FIELDS)))),
    ],
    ids=[
        *("empty", "no base64", "cut off", "not ASCII", "too long", "truncated", "unknown type", "not UTF-8", "nested"),
        *("a double of 3 bytes", "many fields", "many fields within"),
    ],
)
def test_what_cannot_be_read_is_nobody(header: str) -> None:
    assert workload_from(header) is None


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.builds(spliced, st.integers(0, 250), st.binary(max_size=50))))
def test_no_content_raises(body: bytes) -> None:
    found = workload_from(packed(body))
    assert found is None or all(len(value) <= MAX_NAME and value.isprintable() for value in found[:-1])


def test_values_of_other_types_and_names_that_are_no_labels_are_unknown() -> None:
    sent = struct_pb2.Struct()
    sent.update(
        {"WORKLOAD_NAME": 7, "NAMESPACE": "a\nb", "CLUSTER_ID": "x" * (MAX_NAME + 1), "LABELS": ["app"], "NAME": "n"}
    )
    assert workload_from(packed(sent.SerializeToString())) == Workload(instance="n")
    assert workload_from(nested(3)) == NO_WORKLOAD


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        ("kubernetes://apis/apps/v1/namespaces/default/cronjobs/echo", "cronjob"),
        ("kubernetes://apis/apps/v1/namespaces/default/things/echo", ""),
        ("kubernetes://apis/apps/v1/namespaces/default/deployments/other", ""),
        (5, ""),
    ],
)
def test_the_kind_of_the_owner(owner: object, kind: str) -> None:
    assert workload_of({"WORKLOAD_NAME": "echo", "OWNER": owner}).kind == kind


def test_the_workload_of_an_endpoint() -> None:
    assert workload_in("echo-v2;default;echo;v2;c2") == Workload("echo-v2", "default", "c2", "echo", "v2")
    assert workload_in("echo-v2;default") == NO_WORKLOAD


def test_peers_are_remembered_by_all_they_send_and_in_a_bounded_number() -> None:
    peers = Peers(limit=3)
    for number in range(10):
        peer = ECHO._replace(instance=str(number))
        assert peers.find(header_of(peer).encode()) == peers.find(header_of(peer).encode()) == peer
        assert len(peers._known) <= 3
    assert peers.find(b"\xff") is None
    peers.find(b"A" * (REMEMBERED + 4))
    assert all(len(header) <= REMEMBERED for header in peers._known)
