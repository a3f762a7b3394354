"""Checks the filter chains of a listener: their conditions, and TLS."""

from collections.abc import Collection

from pymosn.config.chains import chain_conditions, chain_name, network
from pymosn.config.check.filters import check_chain
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import FilterChain, Listener
from pymosn.config.schema.server import ChainMatch
from pymosn.core.address_ranges import port_ranges
from pymosn.core.addresses import split_address
from pymosn.core.server_names import server_name_pattern
from pymosn.network.chain_match import PLAIN_TEXT, TLS, Key, same_key


def check_chains(
    listener: Listener, path: str, report: Diagnostics, tables: Collection[str], clusters: Collection[str]
) -> None:
    """Check the filter chains of a listener."""
    if not listener.filter_chains:
        report.error(f"{path}.filter_chains", "a listener needs a filter chain")
    for i, chain in enumerate(listener.filter_chains):
        _check_match(listener, chain, f"{path}.filter_chains[{i}].match", report)
    defaults = [i for i, chain in enumerate(listener.filter_chains) if chain.is_default]
    for i in defaults[1:]:
        report.error(f"{path}.filter_chains[{i}].is_default", "another chain is the default already")
    for key in ("tls_uninspected_ports", "http_uninspected_ports"):
        ports = getattr(listener, key)
        report.attempt(f"{path}.{key}", port_ranges, ports, value=ports)
    _check_names(listener, path, report)
    _check_distinct(listener, path, report)
    for i, chain in enumerate(listener.filter_chains):
        check_chain(chain, f"{path}.filter_chains[{i}]", report, tables, clusters)
    if listener.inspector and not any(chain.tls_contexts() for chain in listener.filter_chains):
        report.warning(f"{path}.inspector", "has no effect: no filter chain has TLS")
    for chain in listener.filter_chains if listener.inspector else ():
        demands = [context.verify_client and context.require_client_cert for context in chain.tls_contexts()]
        if demands and all(demands):
            message = "plain text is refused where every context requires a client certificate; MOSN serves it"
            report.warning(f"{path}.inspector", message)
            break


def _check_names(listener: Listener, path: str, report: Diagnostics) -> None:
    seen: dict[str, str] = {}
    for i, chain in enumerate(listener.filter_chains):
        inner = f"{path}.filter_chains[{i}].name"
        if chain.name and (earlier := seen.setdefault(chain.name, inner)) != inner:
            report.error(inner, f"duplicate name, already used in {report.line(earlier)}", chain.name)


def _check_match(listener: Listener, chain: FilterChain, path: str, report: Diagnostics) -> None:
    """Check the conditions of one chain."""
    if chain.is_default and chain.match:
        report.error(path, "the default chain has no conditions: it gets what no other chain matches")
    if isinstance(chain.match, str):
        if chain.match:
            report.warning(path, "a text has no effect, as in MOSN; conditions are an object", chain.match)
        return
    match = chain.match
    for i, name in enumerate(match.server_names):
        report.attempt(f"{path}.server_names[{i}]", server_name_pattern, name, value=name)
    for key in ("source_prefixes", "direct_source_prefixes", "destination_prefixes"):
        for i, text in enumerate(getattr(match, key)):
            report.attempt(f"{path}.{key}[{i}]", network, text, value=text)
    if match.direct_source_prefixes and listener.proxy_protocol is not None:
        report.error(f"{path}.direct_source_prefixes", "cannot be combined with proxy_protocol; use source_prefixes")
    for i, protocol in enumerate(match.application_protocols):
        if not protocol:
            report.error(f"{path}.application_protocols[{i}]", "must not be empty", protocol)
    _check_can_match(listener, match, path, report)
    if match.transport_protocol == PLAIN_TEXT and chain.tls_contexts():
        report.error(f"{path}.transport_protocol", "a chain with TLS would refuse all of its connections", PLAIN_TEXT)
    is_text = listener.http_inspector and match.transport_protocol != TLS and not match.server_names
    speaks_tls = match.transport_protocol == TLS or match.server_names or (match.application_protocols and not is_text)
    if speaks_tls and not chain.tls_contexts() and chain.acting_filters().proxy is not None:
        report.warning(path, "selects TLS, which the proxy of this chain cannot read: it has no tls_context")


def _check_can_match(listener: Listener, match: ChainMatch, path: str, report: Diagnostics) -> None:
    """Check for conditions that no connection can fulfil."""
    if match.transport_protocol == PLAIN_TEXT:
        for key in ("server_names", "application_protocols"):
            if getattr(match, key) and not (key == "application_protocols" and listener.http_inspector):
                report.warning(f"{path}.{key}", "never matches: plain text has neither server names nor ALPN")
    if listener.proxy_protocol is not None:
        return  # its header has both ends
    if listener.network.lower() == "unix":
        for key in ("destination_port", "source_prefixes", "source_ports", "destination_prefixes"):
            if getattr(match, key):
                report.warning(f"{path}.{key}", "never matches: ends of a unix socket have neither address nor port")
        return
    try:
        port = split_address(listener.address)[1]
    except ValueError:
        return  # reported with the address
    if match.destination_port not in (0, port) and port != 0 and not listener.use_original_dst:
        message = f"never matches: the listener has port {port}, and no use_original_dst"
        report.warning(f"{path}.destination_port", message, match.destination_port)


def _check_distinct(listener: Listener, path: str, report: Diagnostics) -> None:
    """Check that no two chains match the same connections equally well."""
    matches = [f"{path}.filter_chains[{i}].match" for i in range(len(listener.filter_chains))]
    if any(report.is_bad(match) or report.has_bad_within(match) for match in matches):
        return
    same = same_key([chain_conditions(chain) for chain in listener.filter_chains])
    if same is None:
        return
    first, second, key = same
    place = report.line(f"{path}.filter_chains[{first}]")
    message = f"{chain_name(listener, second)} matches the same connections as {chain_name(listener, first)} in {place}"
    report.error(f"{path}.filter_chains[{second}]", f"{message}: {_key_text(key)}")


def _key_text(key: Key) -> str:
    texts = [
        f"port {key.port}" if key.port else "",
        f"destination {key.destination}" if key.destination is not None else "",
        f"server name {key.name}" if key.name else "",
        f"transport {key.transport}" if key.transport else "",
        f"protocol {key.protocol}" if key.protocol else "",
        f"direct source {key.direct}" if key.direct is not None else "",
        f"{key.source_type} source" if key.source_type else "",
        f"source {key.network}" if key.network is not None else "",
        f"source port {key.source_port}" if key.source_port else "",
    ]
    return ", ".join(text for text in texts if text) or "both have no conditions"
