"""xDS as a service of the supervisor: the clients of all control planes, the state of their resources, and the cache."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from pymosn.config.schema import MosnConfig
from pymosn.config.sds import ADS, FILE
from pymosn.control.envoy.facts import Facts
from pymosn.control.envoy.received import facts_of
from pymosn.control.origins import Used
from pymosn.control.service import Service
from pymosn.control.xds.bootstrap import Address, Bootstrap, Source, read_bootstrap
from pymosn.control.xds.cache import Cache, cache_path
from pymosn.control.xds.client import Options, XdsClient
from pymosn.control.xds.convert.kinds import KINDS
from pymosn.control.xds.files import FileClient
from pymosn.control.xds.layer import Merged
from pymosn.control.xds.mosn_counters import CLUSTERS, LISTENERS, xds_group
from pymosn.control.xds.origins import CACHE, resources_named, used_by
from pymosn.control.xds.state import State, Target, Wants
from pymosn.control.xds.static import NO_CLUSTER
from pymosn.control.xds.transport import Server, Tls, Transport
from pymosn.control.xds.types import CLUSTER, LISTENER, SHORT, Rejected, Update
from pymosn.core.counters import GroupData
from pymosn.core.log import INFO, WARN, Log

#: Seconds from a change to its storage in the cache.
CACHE_PAUSE = 1.0
_MOSN_COUNTERS = ((CLUSTER, *CLUSTERS), (LISTENER, *LISTENERS))


class _Inbox:
    """The consumer of one client."""

    def __init__(self, state: State, source: str) -> None:
        self._state = state
        self._source = source
        #: The name of the client, and the address of its server.
        self.sender: Callable[[], str] = lambda: ""

    async def accept(self, update: Update) -> Rejected:
        return await self._state.accept(update._replace(sender=self.sender()), self._source)


class XdsService(Service):
    """See the module. One client for ADS, and one for each other source and type."""

    name = "xDS"

    def __init__(
        self, config: MosnConfig, base_dir: str, target: Target, log: Log, transport: Transport | None = None
    ) -> None:
        """`transport`: None for gRPC."""
        self._config = config
        self._target = target
        self._log = log
        self._transport = transport
        self._cache = Cache(cache_path(config, base_dir), log)
        self._clients: dict[tuple[str, str], XdsClient | FileClient] = {}
        self._wanted: dict[tuple[str, str], dict[str, float]] = {}
        self._faulty: set[str] = set()
        self._bootstrap = Bootstrap(None, b"", [], [], {})
        self._storing: asyncio.Task[None] | None = None
        self._restored = 0
        self.state = State(target, KINDS, log, is_wildcard=config.uses_xds(), guard=config.xds_removal_guard)

    async def start(self) -> None:
        """Restores what is in the cache and begins to ask the control planes. ValueError for errors in the bootstrap."""
        found, faults = read_bootstrap(self._config)
        if found is None:
            raise ValueError("; ".join(fault.text() for fault in faults))
        self._bootstrap = found
        if self._config.uses_xds():
            self.state.wildcards = found.wildcards
        for kind, resources in ((CLUSTER, found.clusters), (LISTENER, found.listeners)):
            for name, body in resources:
                if kind == CLUSTER and name == NO_CLUSTER:
                    continue
                why = self.state.add_static(kind, name, body)
                if why:
                    self._log.write(WARN, f"static_resources: {SHORT[kind]} {name} is not used: {why}")
        await self._restore()
        self.state.on_wants = self._subscribe
        self.state.on_applied = self._store_later
        self.state.on_unusable = self._reject_late
        self._target.on_rejected = self.state.on_rejected
        self.state.start()

    async def _restore(self) -> None:
        for kind, resources in (await asyncio.to_thread(self._cache.load)).items():
            if resources:
                await self.state.accept(Update(kind, "", resources, sender=CACHE))
                self._restored += len(self.state.store[kind])
        if self._restored:
            self._log.write(INFO, f"xDS: {self._restored} resources from the cache {self._cache.path}")
            # Without waiting for the control plane; what is incomplete waits as usual.
            await self.state.step()

    async def stop(self) -> None:
        await asyncio.gather(*(client.stop() for client in self._clients.values()))
        await self.state.stop()
        if self._storing is not None:
            self._storing.cancel()
            await self._store()

    # ---- clients

    def _subscribe(self, wants: Wants) -> None:
        """Makes the clients subscribe what is wanted."""
        wanted = {(source, kind): names for source, kinds in wants.items() for kind, names in kinds.items()}
        for key in [*wanted, *(key for key in self._wanted if key not in wanted)]:
            names = wanted.get(key, {})
            if names == self._wanted.get(key, {}):
                continue
            client = self._client(*key)
            if client is not None:
                client.want(key[1], names)
        self._wanted = wanted

    def _reject_late(self, kind: str, faults: Rejected) -> None:
        for (_, only), client in self._clients.items():
            if only in ("", kind):
                client.reject_late(kind, faults)

    def _client(self, source: str, kind: str) -> XdsClient | FileClient | None:
        """The client of a source; None, with a line of the log, if it is not known."""
        key = source, "" if source == ADS else kind
        if key in self._clients:
            return self._clients[key]
        if source.startswith(FILE):
            path = os.path.abspath(source.removeprefix(FILE))
            inbox = _Inbox(self.state, source)
            inbox.sender = lambda: f"the file {path}"
            reader = self._clients[key] = FileClient(path, kind, inbox, self._log)
            reader.start()
            return reader
        place = self._source(source)
        if place is None or not place.addresses:
            if source not in self._faulty:
                self._faulty.add(source)
                self._log.write(
                    WARN, f"xDS: the source {source} is not among static_resources.clusters; nothing is received"
                )
            return None
        options = Options(place.is_delta, key[1], self._bootstrap.node, place.node_on_first_message_only)
        name = "ADS" if source == ADS else f"{SHORT[kind]} from {source}"
        servers = [_server(address, self._config.xds_max_message_bytes) for address in place.addresses]
        inbox = _Inbox(self.state, source)
        client = XdsClient(name, servers, options, self._grpc(), inbox, self._log)
        inbox.sender = lambda: f"{name} {client.server}"
        if source == ADS:
            for type_url, entries in self.state.store.items():
                if entries:
                    client.seed(type_url, {entry_name: entry.version for entry_name, entry in entries.items()})
        self._clients[key] = client
        client.start()
        return client

    def _source(self, source: str) -> Source | None:
        if source == ADS:
            return self._bootstrap.ads
        cluster = source.removeprefix("cluster:")
        if cluster != source:
            return Source(self._bootstrap.servers.get(cluster, ()))
        return Source((Address(source),))

    def _grpc(self) -> Transport:
        if self._transport is None:
            from pymosn.control.xds.grpc_transport import GrpcTransport

            self._transport = GrpcTransport()
        return self._transport

    # ---- cache

    def _store_later(self) -> None:
        if self._cache.path and self._storing is None:
            self._storing = asyncio.get_running_loop().create_task(self._store_soon())

    async def _store_soon(self) -> None:
        await asyncio.sleep(CACHE_PAUSE)
        self._storing = None
        await self._store()

    async def _store(self) -> None:
        content = self._cache.content(self.state.store)
        await asyncio.to_thread(self._cache.write, content)

    # ---- views

    def view(self) -> dict[str, Any]:
        """What the admin API shows."""
        state, merged = self.state, self._target.merged
        config = self._config
        mode = "dynamic" if config.uses_xds() and not merged.own.servers[0].listeners else "mixed"
        return {
            "mode": mode if config.uses_xds() else "file",
            "clients": [_client_view(client) for client in self._clients.values()],
            "types": {
                short: {
                    "version": state.versions.get(kind, ""),
                    "resources": {name: entry.version for name, entry in state.store[kind].items()},
                    "static": sorted(state.static.get(kind, ())),
                    "rejected": {**state.faults[kind], **state.unusable_resources(kind)},
                    "warnings": dict(state.warnings[kind]),
                }
                for kind, short in SHORT.items()
            },
            "waiting": [{"item": f"{wait.owner.kind} {wait.owner.name}", "for": wait.reason} for wait in state.plan.waits],
            "unusable": {f"{owner.kind} {owner.name}": why for owner, (why, _) in state.unusable.items()},
            "shadowed": [f"{owner.kind} {owner.name}" for owner in merged.shadowed],
            "missing_secrets": _missing(merged),
            "held_clusters": sorted(state.plan.held),
            "held_removals": [f"{SHORT[kind]} {name}" for kind, name in state.guarded],
            "ignored_fields": dict(state.ignored),
            "last_error": state.apply_fault,
            "cache": {"path": self._cache.path, "error": self._cache.fault, "restored": self._restored},
        }

    def missing(self) -> str:
        """What has been asked for at the start and has not been activated yet; empty if that is nothing."""
        state = self.state
        waits = ", ".join(f"{wait.owner.kind} {wait.owner.name} waits for {wait.reason}" for wait in state.plan.waits[:3])
        if self._config.uses_xds() and not state.is_settled:
            return waits or "its listeners"
        return "" if state.is_settled else waits or ", ".join(_missing(self._target.merged))

    def resource(self, name: str) -> list[dict[str, Any]]:
        """The resources that have a name: their versions and states, and who uses them."""
        return resources_named(self.state, self._target.merged, name)

    def used(self, kind: str, name: str, chain: int) -> Used:
        """What an item of the configuration consists of, see `Origins`."""
        return used_by(self.state, self._target, kind, name, chain)

    def facts(self, with_resources: bool) -> Facts:
        """For Envoy's views."""
        statuses = [client.status() for client in self._clients.values()]
        return facts_of(self.state, statuses, self._bootstrap.ads is not None, with_resources)

    def metrics(self) -> list[GroupData]:
        """Counters and gauges, with MOSN's type and label."""
        state = self.state
        counters = {"changes": state.applied, "rejected": state.rejected}
        for kind, success, reject in _MOSN_COUNTERS:
            counters[success], counters[reject] = state.accepted.get(kind, 0), state.rejections.get(kind, 0)
        gauges = {f"{short}_resources": len(state.store[kind]) for kind, short in SHORT.items()}
        gauges |= {f"{short}_rejected": len(state.faults[kind]) for kind, short in SHORT.items()}
        gauges["waiting"] = len(state.plan.waits)
        gauges["missing_secrets"] = len(self._target.merged.missing)
        gauges["connected"] = sum(client.status().state == "connected" for client in self._clients.values())
        return [xds_group(counters, gauges)]


def _missing(merged: Merged) -> dict[str, list[str]]:
    """The secrets that are not there, and what needs them."""
    return {f"{key.name} from {key.source}": sorted(set(names)) for key, names in merged.missing.items()}


def _client_view(client: XdsClient | FileClient) -> dict[str, Any]:
    status = client.status()
    shown = status._asdict()
    shown["types"] = {SHORT.get(kind.type_url, kind.type_url): kind._asdict() for kind in status.types}
    return shown


def _server(address: Address, max_message_bytes: int) -> Server:
    tls = None
    if address.has_tls:
        authorities, certificate, key = address.authorities, address.certificate, address.key
        tls = Tls(authorities.encode(), certificate.encode(), key.encode(), address.server_name)
    times = address.connect_timeout, address.keepalive, address.keepalive_timeout
    return Server(address.address, tls, *times, max_message_bytes)
