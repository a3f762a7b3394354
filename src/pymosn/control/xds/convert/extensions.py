"""HTTP filters that are resources of their own (ECDS): TypedExtensionConfig, and the slots for them in listeners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from pymosn.config.schema import Listener, StreamFilter
from pymosn.config.schema.network_filters import ProxyFilter
from pymosn.control.xds.convert.filters import convert_http_filter
from pymosn.control.xds.convert.istio import with_reporter
from pymosn.control.xds.convert.messages import UnknownTypeError, packed_type, type_of
from pymosn.control.xds.convert.sources import Source, read_source
from pymosn.control.xds.convert.view import View

#: Used instead of a filter that has not arrived, and has no default: requests must not pass without it.
_MISSING: Final = {"abort": {"status": 500, "percentage": 100.0}}


class Extension(NamedTuple):
    """A converted TypedExtensionConfig. `kind`: the full name of its type. `filter`: None if it needs none here."""

    name: str
    kind: str
    filter: StreamFilter | None


class Discovery(NamedTuple):
    """An ExtensionConfigSource. `kinds`: the permitted types. `default`: None without one. `waits`: before it is used."""

    name: str
    source: Source
    kinds: tuple[str, ...]
    default: StreamFilter | None
    waits: bool
    is_disabled: bool


class FilterSlot(NamedTuple):
    """Where a discovered filter is in a listener: indexes of the chain, of its network filter, and among its filters."""

    chain: int
    proxy: int
    position: int
    discovery: Discovery


class ExtendedListener(NamedTuple):
    """A listener with slots for discovered filters, which have their defaults in `listener`."""

    listener: Listener
    slots: tuple[FilterSlot, ...]

    def joined(self, found: Mapping[str, Extension]) -> Listener:
        """The listener with the filters that were found."""
        chains = list(self.listener.filter_chains)
        lists: dict[tuple[int, int], list[StreamFilter | None]] = {}
        for slot in self.slots:
            proxy = chains[slot.chain].filters[slot.proxy]
            assert isinstance(proxy, ProxyFilter)
            filters = lists.setdefault((slot.chain, slot.proxy), list(proxy.config.stream_filters or ()))
            filters[slot.position] = _chosen(slot.discovery, found.get(slot.discovery.name))
        for (i, j), filters in lists.items():
            kept = list(chains[i].filters)
            proxy = kept[j]
            assert isinstance(proxy, ProxyFilter)
            made = [with_reporter(entry, self.listener) for entry in filters if entry is not None]
            kept[j] = ProxyFilter(config=msgspec.structs.replace(proxy.config, stream_filters=made))
            chains[i] = msgspec.structs.replace(chains[i], filters=kept)
        return msgspec.structs.replace(self.listener, filter_chains=chains)


def _chosen(discovery: Discovery, found: Extension | None) -> StreamFilter | None:
    if found is None or found.kind not in discovery.kinds:
        return fallback(discovery)
    if found.filter is None:
        return None
    return msgspec.structs.replace(found.filter, name=discovery.name, disabled=discovery.is_disabled)


def fallback(discovery: Discovery) -> StreamFilter:
    """The filter until another one has arrived: the default, or one that answers all requests with 500, as in Envoy."""
    made = discovery.default or StreamFilter(type="fault", config=_MISSING)
    return msgspec.structs.replace(made, name=discovery.name, disabled=discovery.is_disabled)


def convert_extension(view: View) -> Extension:
    """A TypedExtensionConfig with an HTTP filter."""
    with view:
        name = view.value("name")
        kind = _kind(view, "typed_config")
        config = view.typed("typed_config")
        if config is None:
            if not view.has("typed_config"):
                view.fault("typed_config", "missing")
            return Extension(name, kind, None)
        return Extension(name, kind, convert_http_filter(config))


def read_discovery(view: View, name: str, is_disabled: bool) -> Discovery | None:
    """The `config_discovery` of an HTTP filter; None, with a fault, if its source cannot be used."""
    with view:
        kinds = tuple(type_of(url) for url in view.values("type_urls"))
        if not kinds:
            view.fault("type_urls", "must not be empty")
        applies_default = view.value("apply_default_config_without_warming")
        default: StreamFilter | None = None
        if view.has("default_config"):
            kind = _kind(view, "default_config")
            if kind not in kinds:
                view.fault("default_config", f"its type {kind or '(none)'} is not among type_urls")
            config = view.typed("default_config")
            default = None if config is None else convert_http_filter(config)
        elif applies_default:
            view.fault("apply_default_config_without_warming", "there is no default_config")
        inner = view.inner("config_source")
        source = None if inner is None else read_source(inner)
        if inner is None:
            view.fault("config_source", "missing")
        return None if source is None else Discovery(name, source, kinds, default, not applies_default, is_disabled)


def _kind(view: View, name: str) -> str:
    """The full name of the type in an `Any`; empty if it cannot be read, which unpacking it then reports."""
    packed: Any = getattr(view.message, name)
    try:
        return packed_type(packed)
    except UnknownTypeError:
        return ""
