"""`View`: fields that are not read reject the resource, unless they are known as harmless."""

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import any_pb2, struct_pb2
from udpa.type.v1 import typed_struct_pb2

from pymosn.control.xds.convert.messages import UnknownTypeError, unpack
from pymosn.control.xds.convert.view import LONGEST, MOST, Report, View

TLS = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def view_of(message: cluster_pb2.Cluster) -> tuple[View, Report]:
    report = Report()
    return View(message, "", report), report


def test_a_field_that_is_not_read_rejects_the_resource() -> None:
    view, report = view_of(cluster_pb2.Cluster(name="a", use_tcp_for_dns_lookups=True))
    with view:
        assert view.value("name") == "a"
    assert [fault.path for fault in report.faults] == ["use_tcp_for_dns_lookups"]
    assert report.read == {"envoy.config.cluster.v3.Cluster.name"}


def test_a_harmless_field_is_counted() -> None:
    view, report = view_of(cluster_pb2.Cluster(name="a", alt_stat_name="b"))
    with view:
        view.value("name")
    assert not report.faults
    assert report.ignored == {"envoy.config.cluster.v3.Cluster.alt_stat_name": 1}


def test_a_field_of_a_newer_version_rejects_the_resource() -> None:
    newer = cluster_pb2.Cluster.FromString(b"\x0a\x01a" + b"\xc2\x3e\x01x")  # field 1000
    view, report = view_of(newer)
    with view:
        view.value("name")
    assert "field number 1000" in report.text()


def test_faults_inside_a_list_have_its_index() -> None:
    message = cluster_pb2.Cluster()
    message.health_checks.add()
    message.health_checks.add().timeout.seconds = -1
    view, report = view_of(message)
    with view:
        for item in view.items("health_checks"):
            with item:
                item.seconds("timeout")
    assert report.faults[0].text() == "health_checks[1].timeout: invalid duration of -1 s and 0 ns"


def test_the_longest_duration_is_that_of_protobuf() -> None:
    message = cluster_pb2.Cluster()
    message.connect_timeout.seconds = 315_576_000_000
    view, report = view_of(message)
    assert view.seconds("connect_timeout") == 315_576_000_000.0
    message.connect_timeout.seconds += 1
    assert view.seconds("connect_timeout") is None
    assert report.text() == "connect_timeout: invalid duration of 315576000001 s and 0 ns"


def test_the_text_of_faults_is_not_longer_than_anybody_reads() -> None:
    report = Report()
    report.fault(f"a[{'k' * 1_000_000}].b", "m" * 1_000_000)
    for i in range(MOST + 9):
        report.fault(f"c[{i}]", "missing")
    first, *_, last = report.text().split("; ")
    assert first.startswith("a[kkk")
    assert first.endswith("mmm... (1000000 characters)")
    assert len(first) < 2 * LONGEST + 100
    assert last == "and 10 more"


def test_values() -> None:
    message = cluster_pb2.Cluster(lb_policy="RING_HASH")
    message.connect_timeout.FromMilliseconds(1500)
    message.per_connection_buffer_limit_bytes.value = 7
    view, report = view_of(message)
    with view:
        assert view.enum("lb_policy") == "RING_HASH"
        assert view.seconds("connect_timeout") == 1.5
        assert view.wrapped("per_connection_buffer_limit_bytes") == 7
        assert view.wrapped("max_requests_per_connection") is None
        assert view.inner("eds_cluster_config") is None
    assert not report.faults


def test_an_error_in_the_converter_is_not_hidden() -> None:
    view, report = view_of(cluster_pb2.Cluster(name="a"))
    with pytest.raises(KeyError), view:
        raise KeyError("x")
    assert not report.faults


def test_unknown_types_are_faults_with_their_path() -> None:
    message = cluster_pb2.Cluster()
    message.transport_socket.typed_config.type_url = "type.googleapis.com/no.such.Type"
    view, report = view_of(message)
    with view:
        socket = view.inner("transport_socket")
        assert socket is not None
        with socket:
            assert socket.typed("typed_config") is None
    assert report.text() == "transport_socket.typed_config: unknown type no.such.Type"


def test_a_typed_struct_is_its_inner_type() -> None:
    struct = typed_struct_pb2.TypedStruct(type_url=f"type.googleapis.com/{TLS}")
    struct.value.update({"sni": "example.com"})
    packed = any_pb2.Any()
    packed.Pack(struct)
    assert unpack(packed).sni == "example.com"  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [{"sni": 3}, {"no_such_field": "x"}])
def test_an_invalid_typed_struct(value: dict[str, object]) -> None:
    struct = typed_struct_pb2.TypedStruct(type_url=f"type.googleapis.com/{TLS}", value=struct_pb2.Struct())
    struct.value.update(value)
    packed = any_pb2.Any()
    packed.Pack(struct)
    with pytest.raises(UnknownTypeError, match="invalid envoy"):
        unpack(packed)
