"""Hosts and URIs in the configuration: what is checked, and what becomes of it."""

from typing import Any

import msgspec
import pytest

from pymosn.assembly.clusters import plan_cluster
from pymosn.assembly.share import WorkerShare
from pymosn.config.check.routes import domain_fault
from pymosn.config.load import load_text
from pymosn.config.schema import Cluster


def faults(redirect: dict[str, Any]) -> list[tuple[str, str]]:
    """The severity and the key of each fault of a redirect."""
    route = {"match": {"prefix": "/"}, "redirect": redirect}
    table = {"router_config_name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    loaded = load_text(msgspec.json.encode({"servers": [{"routers": [table]}]}).decode(), "file")
    return [(str(fault.severity), fault.path.rpartition(".")[2]) for fault in loaded.faults if ".redirect." in fault.path]


@pytest.mark.parametrize("host", ["b.example", "b.example:8443", "[::1]:80", "xn--bcher-kva.example", "127.0.0.1"])
def test_hosts_of_redirects(host: str) -> None:
    assert faults({"host_redirect": host}) == []


@pytest.mark.parametrize("host", ["bücher.example", "b/x", "u@b", "b:x", "::1", "[fe80::1%25eth0]", "http://b", "a b"])
def test_what_is_no_host_of_a_redirect(host: str) -> None:
    assert [path for _, path in faults({"host_redirect": host})] == ["host_redirect"]


def test_a_relative_path() -> None:
    assert [path for _, path in faults({"path_redirect": "new"})] == ["path_redirect"]
    assert faults({"path_redirect": "/new?x=1#ü"}) == []


@pytest.mark.parametrize(
    ("domain", "is_valid"),
    [
        *((domain, True) for domain in ("*", "*:*", "a", "a:80", "a:*", "*.a:80", "[::1]", "[::1]:80", "[::1]:*")),
        *((domain, False) for domain in ("", ":80", "a:", "a:x", "a:70000", "[::1]:", "a*", "a.*.b:80")),
    ],
)
def test_domains(domain: str, is_valid: bool) -> None:
    assert (domain_fault(domain) is None) == is_valid


def test_the_profile_of_a_cluster() -> None:
    share = WorkerShare(1, 0)
    assert plan_cluster(Cluster(name="c"), share).is_strict
    assert not plan_cluster(msgspec.convert({"name": "c", "upstream_profile": "compatible"}, Cluster), share).is_strict
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "c", "upstream_profile": "loose"}, Cluster)
