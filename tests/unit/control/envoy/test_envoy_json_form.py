"""Messages as JSON: Envoy's own spelling, unknown types, and no secrets."""

import base64
import json
from typing import Any

import pytest
from google.protobuf import any_pb2, json_format
from tests.kit.xds_messages import message_of

from pymosn.control.envoy.json_form import TooDeepError, json_shown, load_types, message_form, message_type, packed_form
from pymosn.control.xds.types import CLUSTER, LISTENER, ROUTES, SECRET

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
PREFIX = "type.googleapis.com/"


def shown(url: str, value: dict[str, Any]) -> dict[str, Any]:
    message = message_of(url.rpartition("/")[2], value)
    return packed_form(message.DESCRIPTOR.full_name, message.SerializeToString())


def test_the_json_is_envoys_and_reads_back_to_the_same_message() -> None:
    value = {
        "name": "a",
        "type": "STRICT_DNS",
        "connect_timeout": "0.250s",
        "per_connection_buffer_limit_bytes": 32768,
        "common_lb_config": {"healthy_panic_threshold": {"value": 12.5}},
        "metadata": {"filter_metadata": {"istio": {"services": [{"host": "a"}], "n": 1.0, "is": True}}},
        "circuit_breakers": {"thresholds": [{"max_connections": 4294967295, "track_remaining": True}]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
        "typed_extension_protocol_options": {
            "x": {
                "@type": PREFIX + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    found = shown(CLUSTER, value)
    assert found == {"@type": CLUSTER, **value}
    message = json_format.ParseDict(
        {key: item for key, item in found.items() if key != "@type"}, message_type(CLUSTER[len(PREFIX) :])()
    )
    assert message == message_of(CLUSTER[len(PREFIX) :], value)


def test_types_inside_types_are_unpacked_and_loaded_when_they_are_needed() -> None:
    router = {"@type": PREFIX + "envoy.extensions.filters.http.cors.v3.Cors"}
    manager = {"@type": PREFIX + HCM, "stat_prefix": "a", "http_filters": [{"name": "cors", "typed_config": router}]}
    value = {"name": "a", "filter_chains": [{"filters": [{"name": "m", "typed_config": manager}]}]}
    load_types(value)
    assert shown(LISTENER, value)["filter_chains"][0]["filters"][0]["typed_config"] == manager


def test_an_unknown_type_and_a_damaged_message_are_shown_as_base64() -> None:
    from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig

    for url, body in (("type.googleapis.com/some.other.Config", b"\x30\x01"), (CLUSTER, b"\xff")):
        message = TypedExtensionConfig(name="a", typed_config=any_pb2.Any(type_url=url, value=body))
        assert message_form(message)["typed_config"] == {"@type": url, "value": base64.b64encode(body).decode()}


@pytest.mark.parametrize(
    "name", ["os.path", "envoy", "envoy..os", "envoy.no.such.v3.Thing", "pymosn.cli.Main", "", "envoy.admin.v3"]
)
def test_names_of_types_import_nothing_else(name: str) -> None:
    assert message_type(name) is None


def test_types_of_istio_are_shown_as_istio_writes_them() -> None:
    body = base64.b64decode("QiYKFAoEaG9zdBIMcmVxdWVzdC5ob3N0Eg5yZXF1ZXN0c190b3RhbA==")  # received from istiod 1.31
    metrics = [{"dimensions": {"host": "request.host"}, "name": "requests_total"}]
    assert packed_form("stats.PluginConfig", body) == {"@type": PREFIX + "stats.PluginConfig", "metrics": metrics}


def test_structs_of_types_that_are_not_here_keep_their_content() -> None:
    from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
    from udpa.type.v1.typed_struct_pb2 import TypedStruct

    inner = TypedStruct(type_url="type.googleapis.com/a.B")
    inner.value.update({"x": 1})
    packed = any_pb2.Any()
    packed.Pack(inner)
    found = message_form(TypedExtensionConfig(name="a", typed_config=packed))["typed_config"]
    assert found == {"@type": PREFIX + "udpa.type.v1.TypedStruct", "type_url": inner.type_url, "value": {"x": 1.0}}


def test_secrets_of_messages_are_hidden_and_their_structure_stays() -> None:
    secret = {
        "name": "default",
        "tls_certificate": {
            "certificate_chain": {"inline_bytes": base64.b64encode(b"CERT").decode()},
            "private_key": {"inline_string": "KEY TEXT"},
            "password": {"inline_bytes": base64.b64encode(b"PASS").decode()},
        },
    }
    found = shown(SECRET, secret)
    assert found["tls_certificate"]["certificate_chain"] == secret["tls_certificate"]["certificate_chain"]  # type: ignore[index]
    assert found["tls_certificate"]["private_key"] == {"inline_string": "[redacted]"}
    assert base64.b64decode(found["tls_certificate"]["password"]["inline_bytes"]) == b"[redacted]"
    json_format.ParseDict(
        {key: item for key, item in found.items() if key != "@type"}, message_type(SECRET[len(PREFIX) :])()
    )


def test_values_of_credential_headers_are_hidden() -> None:
    value = {
        "name": "t",
        "request_headers_to_add": [
            {"header": {"key": "authorization", "value": "a-b-c-1"}},
            {"header": {"key": "x-plain", "value": "kept"}},
        ],
        "virtual_hosts": [
            {
                "name": "v",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": "/", "headers": [{"name": "cookie", "string_match": {"exact": "session-77"}}]},
                        "direct_response": {"status": 200, "body": {"inline_string": "https://u:pw99@h/"}},
                    }
                ],
            }
        ],
    }
    text = json.dumps(shown(ROUTES, value))
    assert "kept" in text
    for word in ("a-b-c-1", "session-77", "pw99"):
        assert word not in text


def test_a_bootstrap_is_shown_without_its_secrets() -> None:
    value = {
        "private_key": {"inline_string": "KEY", "filename": "/k.pem"},
        "privateKey": {"inlineBytes": "S0VZ"},
        "headers": [{"key": "authorization", "value": "abcd1"}, {"key": "host", "value": "b"}],
        "metadata": {"NAME": "a", "n": 1, "list": ["https://u:pw99@h/"]},
    }
    found = json_shown(value)
    assert found["private_key"] == {"inline_string": "[redacted]", "filename": "[redacted]"}
    assert found["privateKey"] == {"inlineBytes": "[redacted]"}
    assert found["headers"] == [{"key": "authorization", "value": "[redacted]"}, {"key": "host", "value": "b"}]
    assert found["metadata"]["NAME"] == "a"
    assert "pw99" not in json.dumps(found)


def test_messages_that_are_nested_too_deeply_are_rejected() -> None:
    packed = any_pb2.Any()
    for _ in range(150):
        packed = any_pb2.Any(type_url=PREFIX + "google.protobuf.Any", value=packed.SerializeToString())
    with pytest.raises(TooDeepError):
        packed_form("google.protobuf.Any", packed.value)


def test_what_json_cannot_express_is_shown_and_without_secrets() -> None:
    """A resource that was rejected for it is shown, too."""
    from envoy.config.cluster.v3.cluster_pb2 import Cluster

    message = Cluster(name="a")
    message.connect_timeout.seconds = 1 << 62
    message.metadata.filter_metadata["x"].update({"password": "opensesame", "n": float("nan")})
    found = message_form(message)
    assert found["connect_timeout"] == {"seconds": str(1 << 62)}
    assert found["metadata"]["filter_metadata"]["x"]["fields"]["n"] == {"number_value": "NaN"}
    assert "opensesame" not in json.dumps(found, allow_nan=False)
