"""The part of `explain` about the filter chain of a connection: which one a client gets, and why not another."""

from __future__ import annotations

from typing import Any, NamedTuple

from pymosn.assembly.tls import is_waiting
from pymosn.config.chains import chain_conditions, chain_name
from pymosn.config.schema import FilterChain, Listener
from pymosn.core.authority import normal_authority, split_authority
from pymosn.core.failure import NO_FILTER_CHAIN, NOT_TLS, TLS_HANDSHAKE_FAILED, Failure
from pymosn.core.headers import to_bytes, to_text
from pymosn.core.uri import Uri
from pymosn.network.chain_match import PLAIN_TEXT, TLS, ChainConditions, ChainTable


class ChainChoice(NamedTuple):
    """The chain of a connection. `chain`: its index, -1 for none. `failure`: why the connection is refused.

    `server_name`: what the client sends in its ClientHello; None without TLS. `facts`: for the answer, empty if there is
    nothing to choose.
    """

    chain: int
    server_name: str | None
    failure: Failure | None
    facts: dict[str, Any]


def host_of(url: Uri, headers: list[tuple[str, str]]) -> str:
    """The host that a client asks for, without port and brackets; empty if it is invalid or there is none."""
    named = next((value for name, value in headers if name.lower() == "host"), "")
    normal = normal_authority(url.authority or to_bytes(named), False)
    return "" if normal is None else to_text(split_authority(normal).name())


def choose_chain(listener: Listener, scheme: str, host: str, port: int, client: str) -> ChainChoice:
    """The chain of a client that connects to `port` from the IP address `client` and asks for `host`, without ALPN.

    `scheme`: of the URL; if it is empty, the client speaks TLS if the listener expects it.
    """
    conditions = [chain_conditions(chain) for chain in listener.filter_chains]
    has_tls = any(chain.tls_contexts() for chain in listener.filter_chains)
    if not has_tls and not any(condition.reads_hello() for condition in conditions):
        is_tls = False
    else:
        is_tls = scheme == "https" or (not scheme and has_tls and not listener.inspector)
    name = host.lower().removesuffix(".") if is_tls else ""
    index = ChainTable(conditions).find(port, name, TLS if is_tls else PLAIN_TEXT, (), client)
    failure: Failure | None = None
    if index < 0:
        failure = NO_FILTER_CHAIN
    elif not is_tls and not _serves_plain_text(listener, listener.filter_chains[index]):
        failure = NOT_TLS
    missing = _missing_secrets(listener.filter_chains[index]) if is_tls and index >= 0 else []
    if missing:
        failure = TLS_HANDSHAKE_FAILED
    facts: dict[str, Any] = {}
    if has_tls or len(conditions) > 1 or any(conditions[0]):
        facts = {
            "name": chain_name(listener, index) if index >= 0 else "none",
            "because": _text(conditions[index]) if index >= 0 else "",
            "transport": TLS if is_tls else PLAIN_TEXT,
            "server_name": name,
            "others": [f"{chain_name(listener, i)}: {_text(other)}" for i, other in enumerate(conditions) if i != index],
        }
        if missing:
            facts["waits_for"] = missing
    return ChainChoice(index, name if is_tls else None, failure, facts)


def _missing_secrets(chain: FilterChain) -> list[str]:
    """The names of the secrets that a chain waits for, if all of its contexts do, so that it refuses every handshake."""
    contexts = chain.tls_contexts()
    if not all(is_waiting(context) for context in contexts):
        return []
    sources = [context.sds_source for context in contexts if context.sds_source is not None]
    secrets = [secret for source in sources for secret in (source.CertificateConfig, source.ValidationConfig)]
    return [secret.name for secret in secrets if secret is not None]


def _serves_plain_text(listener: Listener, chain: FilterChain) -> bool:
    contexts = chain.tls_contexts()
    needs_certificate = all(context.verify_client and context.require_client_cert for context in contexts)
    return not contexts or (listener.inspector and not needs_certificate)


def _text(conditions: ChainConditions) -> str:
    """The conditions of a chain in words."""
    if conditions.is_default:
        return "default: no other chain matches"
    texts = [
        f"port {conditions.port}" if conditions.port else "",
        f"destination {_listed(conditions.destinations)}" if conditions.destinations else "",
        f"server name {' or '.join(conditions.server_names)}" if conditions.server_names else "",
        f"transport {conditions.transport}" if conditions.transport else "",
        f"protocol {' or '.join(conditions.protocols)}" if conditions.protocols else "",
        f"direct source {_listed(conditions.direct)}" if conditions.direct else "",
        f"{conditions.source_type} source" if conditions.source_type else "",
        f"source {_listed(conditions.networks)}" if conditions.networks else "",
        f"source port {_listed(conditions.source_ports)}" if conditions.source_ports else "",
    ]
    return ", ".join(text for text in texts if text) or "all other connections"


def _listed(values: tuple[object, ...]) -> str:
    return " or ".join(str(value) for value in values)
