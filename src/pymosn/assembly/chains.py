"""The filter chains of a listener in one worker, and what a change of the configuration does to those that are live."""

from __future__ import annotations

from pymosn.api.network import FilterChainFactory
from pymosn.assembly.proxy_protocol import proxy_protocol_steps
from pymosn.config.chains import inspection_of
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.core.counters import DownstreamStats
from pymosn.network.chain_match import ChainConditions
from pymosn.network.filter_chains import Chain, FilterChains
from pymosn.network.tls.gate import HandshakeGate
from pymosn.proxy.filtered_chain import FilteredChainFactory
from pymosn.proxy.proxy import ProxyFactory


def proxy_of(factory: FilterChainFactory) -> ProxyFactory | None:
    """The `proxy` of a chain, also after connection filters; None if it has none."""
    inner = factory.chain.inner if isinstance(factory, FilteredChainFactory) else factory
    return inner if isinstance(inner, ProxyFactory) else None


class ListenerChains:
    """The chains of one listener of the configuration."""

    def __init__(self, chains: list[Chain], stats: DownstreamStats, config: ListenerConfig, gate: HandshakeGate) -> None:
        self.chains = chains
        self._gate = gate
        self._stats = stats
        self._config = config

    def factory(self) -> FilterChainFactory:
        """Makes the filters of the listener's connections: those of the one chain, where there is nothing to be chosen."""
        config = self._config
        before = proxy_protocol_steps(config)
        only = self.chains[0]
        if len(self.chains) == 1 and not before and not only.reads_hello and not any(only.conditions):
            return only.factory
        return FilterChains(
            self.chains,
            self._stats,
            before=before,
            gate=self._gate,
            inspector=config.inspector,
            handshake_timeout=config.tls_handshake_timeout,
            idle_timeout=config.idle_timeout(),
            inspection=inspection_of(config),
            inspection_timeout=config.inspection_timeout,
            on_undecided=config.on_undecided,
            listener=config.known_name(),
        )

    def take_over(self, before: ListenerChains) -> list[Chain]:
        """Lets open connections of the chains in `before` use the options of these chains for their next exchange.

        Chains correspond by their names or conditions, or if there is only one. Connections of a chain that is gone keep its
        options, except for the stream filters: those of the listener are used. Returns those chains.
        """
        alike = _Alike(before.chains)
        kept: set[Chain] = set()
        found: set[Chain] = set()
        for chain in self.chains:
            old = before.chains[0] if len(self.chains) == len(before.chains) == 1 else alike.find(chain)
            if old is not None:
                found.add(old)
            new, live = proxy_of(chain.factory), None if old is None else proxy_of(old.factory)
            if old is not None and old not in kept and live is not None and new is not None:
                kept.add(old)
                live.activate(new.options, new.fallback)
                if isinstance(chain.factory, FilteredChainFactory):
                    chain.factory.chain.inner = live
                else:
                    chain.factory = live
        self._replace_filters([chain for chain in before.chains if chain not in kept])
        gone = [chain for chain in before.chains if chain not in found]
        for chain in gone:
            chain.factory.is_gone = True
        return gone

    def _replace_filters(self, gone: list[Chain]) -> None:
        """Gives the chains that are gone the present stream filters, because theirs are about to be stopped."""
        proxies = [proxy for chain in self.chains if (proxy := proxy_of(chain.factory)) is not None]
        for chain in gone:
            proxy = proxy_of(chain.factory)
            if proxies and proxy is not None:
                options = proxy.options.copy()
                options.filters = proxies[0].options.filters
                proxy.activate(options, proxy.fallback)


class _Alike:
    """Finds the chain of a listener that corresponds to another one, by name or else by conditions.

    One that begins or ceases to terminate TLS is another one: its clients have not met what is demanded now.
    """

    def __init__(self, chains: list[Chain]) -> None:
        self._named: dict[tuple[bool, str], Chain] = {}
        self._matching: dict[tuple[bool, ChainConditions], Chain] = {}
        for chain in chains:
            has_tls = chain.contexts is not None
            self._named.setdefault((has_tls, chain.name), chain)
            self._matching.setdefault((has_tls, chain.conditions), chain)

    def find(self, chain: Chain) -> Chain | None:
        """The chain that corresponds to `chain`; None if there is none."""
        has_tls = chain.contexts is not None
        return self._named.get((has_tls, chain.name)) or self._matching.get((has_tls, chain.conditions))
