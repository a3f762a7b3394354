"""Secrets of xDS, and TLS contexts that wait for them."""

from typing import Any

import pytest
from tests.kit import certificates as made
from tests.kit.xds_messages import view_of

from pymosn.assembly.tls import client_settings, server_settings
from pymosn.config.alpn import AlpnOffer
from pymosn.config.schema.tls import NameMatch, SecretSource, SecretSources, TlsContext
from pymosn.control.xds.convert.secrets import Certificate, ConvertedSecret, Validation, convert_secret
from pymosn.control.xds.convert.view import Report
from pymosn.network.tls.contexts import server_context

CA = made.ca().certificate.decode()
CHAIN, KEY = made.server().certificate.decode(), made.server().key.decode()
WAITING = TlsContext(
    status=True,
    verify_client=True,
    require_client_cert=True,
    subject_alt_names=[NameMatch(prefix="spiffe://a/")],
    sds_source=SecretSources(CertificateConfig=SecretSource(name="default"), ValidationConfig=SecretSource(name="ROOTCA")),
)


def convert(secret: dict[str, Any]) -> tuple[ConvertedSecret, Report]:
    view, report = view_of("envoy.extensions.transport_sockets.tls.v3.Secret", secret)
    return convert_secret(view), report


def text_of(text: str) -> bytes:
    return text.encode()


def test_a_certificate() -> None:
    pair = {"certificate_chain": {"inline_string": CHAIN}, "private_key": {"inline_string": KEY}}
    secret, report = convert({"name": "default", "tls_certificate": pair})
    assert not report.faults
    assert secret == ConvertedSecret("default", certificate=Certificate(CHAIN, KEY))


def test_a_validation_context() -> None:
    content = {
        "trusted_ca": {"inline_string": CA},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": "spiffe://a/b"}}],
    }
    secret, report = convert({"name": "ROOTCA", "validation_context": content})
    assert not report.faults
    names = (NameMatch(type="uri", exact="spiffe://a/b"),)
    assert secret == ConvertedSecret("ROOTCA", validation=Validation(ca=CA, names=names))


@pytest.mark.parametrize("kind", ["generic_secret", "session_ticket_keys"])
def test_other_kinds_are_rejected(kind: str) -> None:
    _, report = convert({"name": "a", kind: {}})
    assert [fault.path for fault in report.faults] == [kind]


def test_an_empty_secret_is_rejected() -> None:
    assert convert({"name": "a"})[1].faults


def test_a_context_without_its_secrets_waits() -> None:
    settings = server_settings(WAITING, text_of, AlpnOffer())
    assert settings.is_waiting
    assert server_context(settings).settings.is_waiting
    client = client_settings(WAITING, text_of)
    assert client is not None
    assert client.is_waiting
