"""Validates and converts the resources of an update."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.check import check
from pymosn.config.diagnostics import Diagnostic, Diagnostics
from pymosn.config.schema import Cluster, Listener, MosnConfig, RouterConfiguration, Server, TlsContext
from pymosn.config.schema.cluster import ClusterManager
from pymosn.config.sds import FILE, SecretTexts, SourceError
from pymosn.config.tls_contexts import PEM_KEYS, PEM_MARK, tls_contexts
from pymosn.control.certificates import certificates_in, find_faults, iso_time
from pymosn.control.xds.convert.endpoints import ConvertedEndpoints
from pymosn.control.xds.convert.extensions import Extension
from pymosn.control.xds.convert.kinds import Convert, Item
from pymosn.control.xds.convert.messages import UnknownTypeError, parse, type_of
from pymosn.control.xds.convert.view import Fault, Report, View, listed, shortened
from pymosn.control.xds.layer import needed_secrets, path_in_item
from pymosn.control.xds.types import Resource, Update
from pymosn.control.xds.warming import Entry
from pymosn.core.errors import describe

#: The errors of the files that a configuration names.
PathErrors = Callable[[MosnConfig], Iterable[Diagnostic]]


class Accepted(NamedTuple):
    """`entries`: with new content. `same`: names whose content has not changed. `rejected`: names, and why."""

    entries: dict[str, Entry]
    same: set[str]
    rejected: dict[str, str]
    warnings: dict[str, list[str]]
    ignored: Counter[str]


class Acceptor:
    """Converts by `kinds`: type URL -> converter. `path_errors`: of the files that a configuration with one item names."""

    def __init__(self, kinds: Mapping[str, Convert], path_errors: PathErrors) -> None:
        self._kinds = kinds
        self._path_errors = path_errors

    def accept(self, update: Update, held: Mapping[str, Entry], now: float, *, is_trusted: bool = False) -> Accepted:
        """The resources of an update. `held`: those that were accepted before. Takes long for thousands of resources.

        `is_trusted`: the operator's own, which may name any file.
        """
        accepted = Accepted({}, set(), {}, {}, Counter())
        convert = self._kinds.get(update.type_url)
        for resource in update.resources:
            before = held.get(resource.name)
            if before is not None and resource.body in (b"", before.body):
                accepted.same.add(resource.name)
            elif convert is None:
                accepted.rejected[resource.name] = f"{type_of(update.type_url)} is not supported"
            else:
                self._convert(convert, update, resource, before, now, accepted, is_trusted)
        return accepted

    def _convert(
        self,
        convert: Convert,
        update: Update,
        resource: Resource,
        before: Entry | None,
        now: float,
        accepted: Accepted,
        is_trusted: bool,
    ) -> None:
        report = Report()
        if not resource.name.isprintable():
            # It is in logs, file names, metrics and headers.
            accepted.rejected[resource.name] = "the name has a character that cannot be printed"
            return
        try:
            item = convert(View(parse(type_of(update.type_url), resource.body), "", report))
        except UnknownTypeError as error:
            accepted.rejected[resource.name] = str(error)
            return
        except Exception as error:  # a fault of ours must cost one resource, not the stream
            accepted.rejected[resource.name] = shortened(f"cannot be converted: {describe(error)}")
            return
        faults = report.text() or listed(faults_of(item))
        if not faults and not is_trusted:
            faults = listed([*_placed(self._path_errors(naming(item))), *self._source_faults(item)])
        if faults:
            accepted.rejected[resource.name] = faults
            return
        if before is not None and _is_equal(item, before.item):
            accepted.same.add(resource.name)
            return
        accepted.entries[resource.name] = Entry(item, resource.version, resource.body, now, update.sender)
        accepted.ignored.update(report.ignored)
        if report.warnings:
            accepted.warnings[resource.name] = [warning.text() for warning in report.warnings]

    def _source_faults(self, item: Item) -> list[str]:
        """Files with resources that the item names, but may not: the same are allowed as for certificates."""
        sources = [need.source for need in item.needs]
        if isinstance(item.block, Cluster | Listener):
            with contextlib.suppress(SourceError):  # the check has reported it
                sources += [key.source for key in needed_secrets(item.block)]
        found: list[str] = []
        for path in dict.fromkeys(source.removeprefix(FILE) for source in sources if source.startswith(FILE)):
            context = TlsContext(status=True, ca_cert=os.path.abspath(path))
            config = MosnConfig(
                servers=[Server()], cluster_manager=ClusterManager(clusters=[Cluster(name="x", tls_context=context)])
            )
            found += [shortened(f"{path}: {fault.message}") for fault in self._path_errors(config)]
        return found


def faults_of(item: Item) -> list[str]:
    """What the checks of configuration files find in a converted resource, each with its path in our schema."""
    if isinstance(item.block, SecretTexts):
        return _secret_faults(item.block)
    if not isinstance(item.block, Cluster | Listener | RouterConfiguration):
        return []
    config = naming(item)
    report = Diagnostics(strict=True)
    check(config, report)
    faults = [fault for fault in report.in_order() if fault.severity == "error"]
    if any(_is_complete(context) for _, context in tls_contexts(config)):
        faults += [fault for fault in find_faults(config, TlsMaterial(), time.time()) if fault.severity == "error"]
    return _placed(faults)


def naming(item: Item) -> MosnConfig:
    """A configuration of one item. A cluster without a name has the hosts of an assignment, or the texts of a secret."""
    block = item.block
    server = Server(routers=list(item.tables))
    config = MosnConfig(servers=[server], dynamic_resources={}, static_resources={})
    clusters: list[Cluster] = []
    if isinstance(block, Cluster):
        clusters = [block]
    elif isinstance(block, ConvertedEndpoints):
        clusters = [Cluster(hosts=block.hosts)]
    elif isinstance(block, SecretTexts):
        texts = {key: getattr(block, key) for key in PEM_KEYS}
        clusters = [Cluster(tls_context=TlsContext(status=True, **texts))]
    elif isinstance(block, Listener):
        server.listeners = [block, *item.others]
    elif isinstance(block, RouterConfiguration):
        server.routers = [block]
    elif isinstance(block, Extension) and block.filter is not None:
        server.listeners = [Listener(stream_filters=[block.filter])]
    config.cluster_manager = ClusterManager(clusters=clusters)
    return config


def _placed(faults: Iterable[Diagnostic]) -> list[str]:
    """Faults as text, each with its path in the item."""
    return [Fault(path_in_item(fault.path), fault.message).text() for fault in faults]


def _is_complete(context: TlsContext) -> bool:
    """Whether a context has all its texts: none is in a file, or is still to come from SDS."""
    texts = [getattr(context, key) for key in PEM_KEYS]
    return context.sds_source is None and all(PEM_MARK in text for text in texts if text)


def _secret_faults(texts: SecretTexts) -> list[str]:
    """Why a secret cannot be used: a key that does not belong to its certificate, for example, or an expired CA."""
    pair = PEM_MARK in texts.cert_chain and PEM_MARK in texts.private_key
    context = TlsContext(status=True, insecure_skip=pair)
    if pair:
        context.cert_chain, context.private_key = texts.cert_chain, texts.private_key
    elif PEM_MARK in texts.ca_cert:
        context.ca_cert, context.crl = texts.ca_cert, texts.crl
    else:
        return []  # in files, which are read and checked when they are activated
    config = MosnConfig(
        servers=[Server()], cluster_manager=ClusterManager(clusters=[Cluster(name="x", tls_context=context)])
    )
    now = time.time()
    faults = [fault for fault in find_faults(config, TlsMaterial(), now) if fault.severity == "error"]
    found = [f"{fault.path.rpartition('.')[2]}: {fault.message}" for fault in faults]
    shown = certificates_in((texts.cert_chain or texts.ca_cert).encode())
    ends = [certificate.not_after for certificate in shown]
    if not found and ends and (min(ends) if pair else max(ends)) < now:
        key = "cert_chain" if pair else "ca_cert"
        found.append(f"{key}: has expired on {iso_time(max(end for end in ends if end < now))}")
    return found


def addresses_of(item: Item) -> list[tuple[str, str]]:
    """Network and address of all that a listener binds."""
    found = (address_of(block) for block in (item.block, *item.others))
    return [address for address in found if address is not None]


def address_of(block: Any) -> tuple[str, str] | None:
    """Network and address that a listener binds; None if it binds none, or any free port."""
    if not isinstance(block, Listener) or not block.bind_port or block.address.endswith(":0"):
        return None
    return block.network.lower() or "tcp", block.address


def _is_equal(one: Item, other: Item) -> bool:
    """Whether two items have the same content. What they were made of may differ, as in the order of a map's entries."""
    makers = getattr(one.joined, "__self__", None), getattr(other.joined, "__self__", None)
    return _content(one) == _content(other) and makers[0] == makers[1]


def _content(item: Item) -> tuple[Any, ...]:
    return item.block, item.tables, item.needs, item.others
