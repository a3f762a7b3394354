"""`explain` on listeners with several filter chains."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kit.certificates import server

from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.explain import Question, QuestionError, explain
from pymosn.control.explain_text import as_text

TLS = {
    "status": True,
    "cert_chain": server().certificate.decode(),
    "private_key": server().key.decode(),
}


def chain(table: str, match: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": table}}
    return {"name": table, "match": match or {}, "filters": [proxy], **more}


def configuration(chains: list[dict[str, Any]], **listener: Any) -> MosnConfig:
    tables = []
    for name in ("a", "b", "c"):
        route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": name}}
        host = {"name": "v", "domains": ["*"], "routers": [route]}
        tables.append({"router_config_name": name, "virtual_hosts": [host]})
    clusters = [{"name": "x", "hosts": [{"address": "127.0.0.1:1"}]}]
    made = {"name": "l", "address": "127.0.0.1:8443", "bind_port": True, "filter_chains": chains, **listener}
    loaded = load_text(
        json.dumps({"servers": [{"listeners": [made], "routers": tables}], "cluster_manager": {"clusters": clusters}}), "f"
    )
    assert loaded.config is not None, [fault.text() for fault in loaded.faults]
    return loaded.config


CHAINS = [
    chain("a", {"server_names": ["a.test"]}, tls_context=TLS),
    chain("b", {"source_prefixes": ["10.0.0.0/8"]}, tls_context=TLS),
    chain("c", tls_context=TLS),
]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question(url="https://a.test:8443/"), "a"),
        (Question(url="/", headers=[("Host", "A.test:8443")]), "a"),
        (Question(url="https://other.test/"), "c"),
        (Question(url="https://other.test/", client="10.1.1.1"), "b"),
        (Question(url="https://a.test/", client="10.1.1.1"), "a"),
    ],
)
def test_the_chain_of_a_request(question: Question, expected: str) -> None:
    answer = explain(configuration(CHAINS), question)
    assert (answer["chain"]["name"], answer["reply"]["body"]) == (expected, expected)
    assert len(answer["chain"]["others"]) == 2


def test_as_text() -> None:
    text = as_text(explain(configuration(CHAINS), Question(url="https://a.test/")))
    assert "filter chain  a (tls, server name a.test): server name a.test" in text
    assert "not b: source 10.0.0.0/8" in text
    assert "not c: all other connections" in text


def test_refused_connections() -> None:
    config = configuration(CHAINS)
    assert explain(config, Question(url="http://a.test/"))["reply"]["reason"] == "not_tls"
    assert "reply" in explain(configuration(CHAINS, inspector=True), Question(url="http://a.test/"))
    only = explain(configuration(CHAINS[:1]), Question(url="https://b.test/"))
    assert (only["chain"]["name"], only["reply"]["reason"]) == ("none", "no_filter_chain")


def test_a_chain_without_proxy() -> None:
    tcp = {"type": "tcp_proxy", "config": {"routes": [{"cluster": "x", "server_names": ["t.test"]}]}}
    config = configuration([*CHAINS, {"name": "t", "match": {"server_names": ["t.test"]}, "filters": [tcp]}])
    with pytest.raises(QuestionError, match="t has no proxy filter"):
        explain(config, Question(url="https://t.test/"))


def test_one_plain_chain_is_not_mentioned() -> None:
    assert "chain" not in explain(configuration([chain("a")]), Question(url="http://h/"))


def test_row_17_a_chain_without_its_secret_is_explained() -> None:
    service = {"googleGrpc": {"targetUri": "127.0.0.1:1", "statPrefix": "sds"}}
    source = {"apiConfigSource": {"apiType": "GRPC", "grpcServices": [service]}}
    waiting = {"status": True, "sds_source": {"CertificateConfig": {"name": "absent", "sdsConfig": source}}}
    config = configuration([chain("a", {"server_names": ["a.test"]}, tls_context=waiting), chain("b", tls_context=TLS)])
    answer = explain(config, Question(url="https://a.test:8443/"))
    assert answer["chain"]["waits_for"] == ["absent"]
    assert answer["reply"]["reason"] == "client_tls_handshake_failed"
    assert "waits for the secrets absent, until then no handshake succeeds" in as_text(answer)
    assert "waits_for" not in explain(config, Question(url="https://b.test:8443/"))["chain"]
