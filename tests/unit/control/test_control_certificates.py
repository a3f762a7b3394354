"""Facts of certificates, and the faults that only their content tells."""

import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from tests.kit import certificates as made

from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.schema import Cluster, ClusterManager, FilterChain, Listener, MosnConfig, Server, TlsContext
from pymosn.control import certificates
from pymosn.control.certificates import (
    MAX_METRICS,
    Used,
    as_text,
    certificates_in,
    find_faults,
    metric_groups,
    used_certificates,
)

NOW = time.time()


def listener(**keys: Any) -> MosnConfig:
    chain = FilterChain(tls_context=TlsContext(**{"status": True, **keys}))
    return MosnConfig(servers=[Server(listeners=[Listener(name="front", filter_chains=[chain])])])


def faults_of(config: MosnConfig, **files: bytes) -> list[tuple[str, str, str]]:
    found = find_faults(config, TlsMaterial(files), NOW)
    return [(fault.severity, fault.path.rpartition(".")[2], fault.message) for fault in found]


GOOD = made.server()
ENCRYPTED = GOOD.private.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
)
PAIR = {"cert_chain": "c", "private_key": "k"}


def test_a_good_context_has_no_faults() -> None:
    config = listener(**PAIR, ca_cert="ca", crl="crl")
    assert faults_of(config, c=GOOD.certificate, k=GOOD.key, ca=made.ca().certificate, crl=made.revoke(made.ca())) == []


def test_a_python_whose_openssl_cannot_be_configured_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"c": GOOD.certificate, "k": GOOD.key}
    assert faults_of(listener(**PAIR), **files) == []
    monkeypatch.setattr(certificates, "openssl", lambda: None)
    ((severity, place, text),) = faults_of(listener(**PAIR), **files)
    assert (severity, place) == ("warning", "")
    assert "no session is resumed" in text
    assert faults_of(MosnConfig(servers=[Server()])) == []


UNUSABLE = [
    ({"c": b"", "k": GOOD.key}, "cert_chain", "c: the file is empty"),
    ({"c": b"text", "k": GOOD.key}, "cert_chain", "c: contains no certificate"),
    ({"c": GOOD.certificate[:300], "k": GOOD.key}, "cert_chain", "c: is incomplete: -----END CERTIFICATE----- is missing"),
    ({"c": GOOD.certificate.replace(b"MII", b"AAA"), "k": GOOD.key}, "cert_chain", "c: certificate 1 of 1 is damaged"),
    (
        {"c": made.ca().certificate + GOOD.certificate, "k": GOOD.key},
        "cert_chain",
        "c: the certificate of private_key must be the first, but is 2 of 2",
    ),
    ({"c": GOOD.certificate, "k": b" \n"}, "private_key", "k: the file is empty"),
    ({"c": GOOD.certificate, "k": GOOD.certificate}, "private_key", "k: contains no private key"),
    ({"c": GOOD.certificate, "k": GOOD.key.replace(b"MIG", b"AAA")}, "private_key", "k: is not a valid private key"),
    ({"c": GOOD.certificate, "k": ENCRYPTED}, "private_key", "k: is encrypted"),
    ({"c": GOOD.certificate, "k": made.client().key}, "private_key", "k: does not "),
]


@pytest.mark.parametrize(("files", "key", "message"), UNUSABLE)
@pytest.mark.parametrize("falls_back", [False, True])
def test_an_unusable_pair_is_an_error_unless_the_listener_can_do_without(
    files: dict[str, bytes], key: str, message: str, falls_back: bool
) -> None:
    ((severity, place, text),) = faults_of(listener(**PAIR, fall_back=falls_back), **files)
    assert (severity, place) == ("warning" if falls_back else "error", key)
    assert text.startswith(message)


@pytest.mark.parametrize(
    ("files", "key", "message"),
    [
        ({"ca": b"text"}, "ca_cert", "ca: contains no certificate"),
        ({"ca": made.ca().certificate, "crl": b"text"}, "crl", "crl: "),
        ({"ca": made.ca().certificate, "crl": b" \n"}, "crl", "crl: the file is empty"),
    ],
)
def test_what_verifies_must_be_usable(files: dict[str, bytes], key: str, message: str) -> None:
    context = TlsContext(status=True, **{{"ca": "ca_cert", "crl": "crl"}[name]: name for name in files})
    of_cluster = MosnConfig(
        servers=[Server()], cluster_manager=ClusterManager(clusters=[Cluster(name="a", tls_context=context)])
    )
    pair = {"c": GOOD.certificate, "k": GOOD.key}
    of_listener = listener(**PAIR, ca_cert="ca", crl=context.crl, verify_client=True)
    for config in (of_cluster, of_listener):
        ((severity, place, text),) = faults_of(config, **files, **pair)
        assert (severity, place) == ("error", key)
        assert text.startswith(message)


DER = serialization.Encoding.DER
KEY_DER = GOOD.private.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
PKCS12 = pkcs12.serialize_key_and_certificates(b"x", GOOD.private, GOOD.x509, None, serialization.NoEncryption())
NO_CERTIFICATE, NO_KEY = (
    "contains no certificate (-----BEGIN CERTIFICATE-----) but",
    "contains no private key (-----BEGIN PRIVATE KEY-----) but",
)


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        (GOOD.x509.public_bytes(DER), GOOD.key, f"{NO_CERTIFICATE} may be DER, not PEM: convert it with openssl x509 "),
        (GOOD.certificate, KEY_DER, f"{NO_KEY} may be DER, not PEM: convert it with openssl pkey "),
        (PKCS12, GOOD.key, f"{NO_CERTIFICATE} is PKCS#12, not PEM: convert it with openssl pkcs12 "),
        (GOOD.certificate, PKCS12, f"{NO_KEY} is PKCS#12, not PEM: convert it with openssl pkcs12 "),
        (GOOD.key, GOOD.certificate, f"{NO_CERTIFICATE}: PRIVATE KEY"),
        (GOOD.certificate, GOOD.certificate, f"{NO_KEY}: CERTIFICATE"),
    ],
)
def test_what_a_file_is_instead_of_pem(certificate: bytes, key: bytes, message: str) -> None:
    ((_, _, text),) = faults_of(listener(**PAIR), c=certificate, k=key)
    assert text.partition(": ")[2].startswith(message)


def test_a_key_of_another_algorithm_does_not_belong_to_the_certificate() -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert faults_of(listener(**PAIR), c=GOOD.certificate, k=key) == [
        ("error", "private_key", "k: does not belong to the certificate of cert_chain")
    ]


def test_harmless_forms_of_pem() -> None:
    forms = (
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: b"Bag Attributes\n  a: b\n" + pem + b"the end\n",
        lambda pem: pem + pem,
    )
    for form in forms:
        files = {"c": form(GOOD.certificate), "k": form(GOOD.key), "ca": form(made.ca().certificate)}
        assert faults_of(listener(**PAIR, ca_cert="ca", verify_client=True), **files) == []


def test_certificates_of_a_chain_that_have_not_issued_the_one_before_are_warnings() -> None:
    middle = made.issue("Middle CA", made.ca(), is_ca=True)
    leaf = made.issue("leaf.test", middle)
    for chain in ((leaf,), (leaf, middle), (leaf, middle, made.ca()), (leaf, leaf, middle)):
        content = b"".join(one.certificate for one in chain)
        assert faults_of(listener(**PAIR), c=content, k=leaf.key) == []
    content = leaf.certificate + made.ca().certificate + middle.certificate
    found = faults_of(listener(**PAIR), c=content, k=leaf.key)
    assert [(severity, key) for severity, key, _ in found] == [("warning", "cert_chain")] * 2
    assert found[0][2] == (
        "c: certificate 2 of 3, 'Test CA', is not the issuer of the one before it: peers may reject the chain"
    )


def test_a_ca_without_a_revocation_list_is_a_warning_if_there_are_lists() -> None:
    files = {"c": GOOD.certificate, "k": GOOD.key, "ca": made.ca().certificate + made.other_ca().certificate}
    config = listener(**PAIR, ca_cert="ca", crl="crl", verify_client=True)
    assert faults_of(config, **files, crl=made.revoke(made.ca())) == [
        ("warning", "crl", "crl: has no list of the CA 'Other CA': certificates that it has issued are rejected")
    ]
    assert faults_of(config, **files, crl=made.revoke(made.ca()) + made.revoke(made.other_ca())) == []


def test_only_contexts_of_new_content_are_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[bytes] = []
    load = ssl.SSLContext.load_cert_chain

    def count(context: ssl.SSLContext, certificate: str, *arguments: Any) -> None:
        built.append(Path(certificate).read_bytes())
        load(context, certificate, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", count)
    pairs = [made.issue(f"{name}.test", made.ca()) for name in "abc"]
    contexts = [TlsContext(status=True, cert_chain=f"c{i}", private_key=f"k{i}") for i in range(2)]
    config = MosnConfig(servers=[Server(listeners=[Listener(filter_chains=[FilterChain(tls_context_set=contexts)])])])

    def faults(*issued: made.Issued) -> list[tuple[str, str, str]]:
        built.clear()
        files = {f"c{i}": one.certificate for i, one in enumerate(issued)}
        return faults_of(config, **files, **{f"k{i}": one.key for i, one in enumerate(issued)})

    assert faults(pairs[0], pairs[1]) == []
    assert built == [pairs[0].certificate, pairs[1].certificate]
    assert faults(pairs[0], pairs[2]) == []
    assert built == [pairs[2].certificate]
    wrong = pairs[2]._replace(key=pairs[0].key)
    for _ in range(2):  # what has failed is built again
        assert [fault[:2] for fault in faults(pairs[0], wrong)] == [("error", "private_key")]
        assert built == [wrong.certificate]


def test_certificates_that_are_not_valid_now_are_warnings() -> None:
    for issued, word in ((made.expired(), "has expired on"), (made.not_yet_valid(), "is not valid before")):
        ((severity, key, message),) = faults_of(listener(**PAIR), c=issued.certificate, k=issued.key)
        assert (severity, key) == ("warning", "cert_chain")
        assert word in message
    files = {"c": GOOD.certificate, "k": GOOD.key, "ca": made.expired().certificate}
    ((severity, key, _),) = faults_of(listener(**PAIR, ca_cert="ca"), **files)
    assert (severity, key) == ("warning", "ca_cert")


def test_no_message_quotes_a_key() -> None:
    broken = GOOD.key.replace(b"MIG", b"AAA")
    for config in (listener(cert_chain="c", private_key=broken.decode()), listener(**PAIR)):
        text = str(faults_of(config, c=GOOD.certificate, k=broken))
        assert "is not a valid private key" in text
        assert not any(line in text for line in broken.decode().splitlines()[1:-1])


def test_the_facts_of_a_certificate() -> None:
    (found,) = certificates_in(GOOD.certificate)
    assert (found.subject, found.issuer, found.is_ca) == ("CN=server.test", "CN=Test CA", False)
    assert found.names == ("localhost", "server.test", "*.wild.test", "127.0.0.1", "::1")
    assert found.serial == f"{GOOD.x509.serial_number:x}"
    assert len(found.fingerprint) == 64
    assert found.not_after == GOOD.x509.not_valid_after_utc.timestamp()
    assert certificates_in(made.ca().certificate)[0].is_ca
    assert certificates_in(made.spiffe().certificate)[0].names[-1] == made.SPIFFE_ID


def test_where_a_certificate_is_used() -> None:
    config = listener(**PAIR, ca_cert=made.ca().certificate.decode())
    clusters = [Cluster(name="back", tls_context=TlsContext(status=True, ca_cert="ca"))]
    manager = ClusterManager(clusters=clusters, tls_context=TlsContext(status=True, ca_cert="ca"))
    config.cluster_manager = manager
    material = TlsMaterial({"c": GOOD.certificate, "k": GOOD.key, "ca": made.ca().certificate})
    found = {
        (used.certificate.label, used.file): used.by
        for used in used_certificates(config, material, lambda path: f"/x/{path}")
    }
    assert found == {
        ("server.test", "/x/c"): ["listener front: cert_chain"],
        ("Test CA", ""): ["listener front: ca_cert"],
        ("Test CA", "/x/ca"): ["cluster_manager: ca_cert", "cluster back: ca_cert"],
    }


def used(count: int) -> list[Used]:
    (found,) = certificates_in(GOOD.certificate)
    return [Used(found._replace(fingerprint=f"{number:064x}"[::-1]), "f", ["u"]) for number in range(count)]


def test_the_seconds_until_the_end_are_gauges_with_bounded_labels() -> None:
    (group,) = metric_groups(used(1), GOOD.x509.not_valid_after_utc.timestamp() + 5)
    assert group["gauges"] == {"expires_in_seconds": -5}
    assert group["labels"] == [("fingerprint", "0" * 16), ("name", "server.test")]
    assert len(metric_groups(used(MAX_METRICS + 9), NOW)) == MAX_METRICS
    long = made.issue("n" * 64, None, names=(f"{'a' * 60}.{'b' * 60}.test",))
    assert len(certificates_in(long.certificate)[0].label) <= 100


def test_foreign_text_is_escaped_in_the_list() -> None:
    issued = made.issue("a\n\x1b[31mred", None, ends=timedelta(days=-1))
    (certificate,) = certificates_in(issued.certificate)
    text = as_text([Used(certificate, "", ["listener a\nb: cert_chain"]).view(NOW)])
    assert "\x1b" not in text
    assert text.splitlines()[0].startswith("CN=a")
    assert "EXPIRED 1 days ago" in text
    assert text.count("\n") == 6
