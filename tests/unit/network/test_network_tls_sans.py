"""Which certificates `PeerRules` accepts."""

import pytest

from pymosn.api.tls import ClientCertificate
from pymosn.core.regex import PatternError
from pymosn.network.tls.sans import NamePattern, PeerRules


def certificate(
    uris: tuple[str, ...] = (), dns: tuple[str, ...] = (), ips: tuple[str, ...] = (), emails: tuple[str, ...] = ()
) -> ClientCertificate:
    return ClientCertificate(
        is_verified=True,
        subject="",
        issuer="",
        serial="",
        fingerprint=64 * "a",
        dns_names=dns,
        uris=uris,
        not_after=0.0,
        der=b"",
        ips=ips,
        emails=emails,
    )


ECHO = certificate(("spiffe://cluster.local/ns/default/sa/echo",), ("*.example.com", "Host.test"), ("10.0.0.1",), ("a@b.c",))


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [
        (NamePattern("uri", "exact", "spiffe://cluster.local/ns/default/sa/echo"), True),
        (NamePattern("", "exact", "spiffe://cluster.local/ns/default/sa/echo"), True),
        (NamePattern("dns", "exact", "spiffe://cluster.local/ns/default/sa/echo"), False),
        (NamePattern("uri", "exact", "spiffe://cluster.local/ns/default/sa/Echo"), False),
        (NamePattern("uri", "exact", "SPIFFE://cluster.local/ns/default/sa/Echo", True), True),
        (NamePattern("uri", "prefix", "spiffe://cluster.local/"), True),
        (NamePattern("uri", "prefix", "spiffe://cluster.localhost/"), False),
        (NamePattern("uri", "suffix", "/sa/echo"), True),
        (NamePattern("uri", "contains", "/ns/default/"), True),
        (NamePattern("uri", "regex", "spiffe://[^/]+/ns/default/sa/.*"), True),
        (NamePattern("uri", "regex", "spiffe://[^/]+/ns/default"), False),  # the whole name must match
        (NamePattern("uri", "regex", "SPIFFE://.*", True), True),
        (NamePattern("dns", "exact", "host.test"), True),
        (NamePattern("dns", "exact", "a.example.com"), True),
        (NamePattern("dns", "exact", "a.b.example.com"), False),
        (NamePattern("dns", "exact", "example.com"), False),
        (NamePattern("dns", "exact", ".example.com"), False),
        (NamePattern("", "exact", "a.example.com"), False),  # wildcards only where a DNS name is asked for
        (NamePattern("ip", "exact", "10.0.0.1"), True),
        (NamePattern("email", "suffix", "@b.c"), True),
    ],
)
def test_one_pattern(pattern: NamePattern, accepted: bool) -> None:
    assert PeerRules((), [pattern], ()).accepts(ECHO) is accepted


def test_one_of_several_names_is_enough_but_every_kind_of_rule_must_be_met() -> None:
    other, echo = NamePattern("uri", "prefix", "spiffe://other/"), NamePattern("uri", "suffix", "/echo")
    assert PeerRules((), [other, echo], ()).accepts(ECHO)
    assert not PeerRules((), [other], ()).accepts(ECHO)
    assert PeerRules((), [echo], [64 * "a"]).accepts(ECHO)
    assert not PeerRules((), [echo], [64 * "b"]).accepts(ECHO)
    assert not PeerRules(["spiffe://x"], [echo], ()).accepts(ECHO)
    assert PeerRules(["SPIFFE://cluster.local/ns/default/sa/echo"], [echo], ()).accepts(ECHO)


def test_a_certificate_without_names_has_none_of_them() -> None:
    assert not PeerRules((), [NamePattern("", "regex", ".*")], ()).accepts(certificate())
    assert PeerRules((), (), ()).accepts(certificate())


def test_an_invalid_expression() -> None:
    with pytest.raises(PatternError):
        PeerRules((), [NamePattern("uri", "regex", "(")], ())
