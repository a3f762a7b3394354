"""The converters of all types of resources, in one form: what the application needs of each.

A type without a converter is rejected, so that its control plane learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pymosn.config.schema import Listener, RouterConfiguration
from pymosn.config.sds import ADS, FILE, SecretTexts
from pymosn.control.xds.convert.clusters import convert_cluster
from pymosn.control.xds.convert.endpoints import convert_endpoints
from pymosn.control.xds.convert.extensions import ExtendedListener, convert_extension
from pymosn.control.xds.convert.listeners import convert_listener
from pymosn.control.xds.convert.routes import convert_routes
from pymosn.control.xds.convert.secrets import convert_secret
from pymosn.control.xds.convert.sources import Source
from pymosn.control.xds.convert.view import View
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET


class Need(NamedTuple):
    """A resource that another one waits for. `timeout`: seconds (initial_fetch_timeout); 0: for ever.

    `kinds`: the types of message that it may contain; empty: any. `waits`: false if the other one may be active without it.
    """

    type_url: str
    name: str
    source: str = ADS
    timeout: float = 15.0
    kinds: tuple[str, ...] = ()
    waits: bool = True


class Item(NamedTuple):
    """A converted resource.

    `block`: a Cluster, Listener, RouterConfiguration or SecretTexts, the hosts of a cluster in the form that `joined` of
    the cluster takes, or an Extension. `tables`: of a listener. `needs`: the endpoints of a cluster; the tables and
    extensions of a listener, which `joined` takes by their names. `others`: the listener at its additional addresses.
    """

    name: str
    block: Any
    tables: tuple[RouterConfiguration, ...] = ()
    needs: tuple[Need, ...] = ()
    joined: Callable[[Any], Any] | None = None
    others: tuple[Listener, ...] = ()


#: Converts a message; faults are in the view's report.
Convert = Callable[[View], Item]


def _secret(view: View) -> Item:
    found = convert_secret(view)
    pair, trusted = found.certificate, found.validation
    if pair is not None:
        return Item(found.name, SecretTexts(pair.chain, pair.key))
    if trusted is None:
        return Item(found.name, SecretTexts())
    return Item(found.name, SecretTexts("", "", trusted.ca, trusted.crl, trusted.names, trusted.hashes))


def _cluster(view: View) -> Item:
    found = convert_cluster(view)
    eds = found.eds
    if eds is None:
        return Item(found.cluster.name, found.cluster)
    need = Need(ENDPOINTS, eds.name, _source(eds.source), eds.source.fetch_timeout)
    return Item(found.cluster.name, found.cluster, needs=(need,), joined=found.with_endpoints)


def _endpoints(view: View) -> Item:
    found = convert_endpoints(view)
    return Item(found.name, found)


def _source(source: Source) -> str:
    """A source in the form of `Need`."""
    if source.kind == "path":
        return f"{FILE}{source.path}"
    if source.cluster:
        return f"cluster:{source.cluster}"
    if source.target:
        return f"unix:{source.target}" if source.target.startswith(("/", "./")) else source.target
    return ADS


def _routes(view: View) -> Item:
    found = convert_routes(view, str(view.message.name))
    return Item(found.router_config_name, found)


def _listener(view: View) -> Item:
    found = convert_listener(view)
    needs: list[Need] = []
    for name, source in found.routes:
        needs.append(Need(ROUTES, name, _source(source), source.fetch_timeout))
    for slot in found.slots:
        wanted = slot.discovery
        source = wanted.source
        needs.append(Need(EXTENSION, wanted.name, _source(source), source.fetch_timeout, wanted.kinds, waits=wanted.waits))
    joined = ExtendedListener(found.listener, found.slots).joined if found.slots else None
    return Item(found.listener.known_name(), found.listener, found.tables, tuple(needs), joined, found.others)


def _extension(view: View) -> Item:
    found = convert_extension(view)
    return Item(found.name, found)


#: Type URL -> its converter.
KINDS: Mapping[str, Convert] = {
    CLUSTER: _cluster,
    ENDPOINTS: _endpoints,
    LISTENER: _listener,
    ROUTES: _routes,
    SECRET: _secret,
    EXTENSION: _extension,
}
