"""Routes of `tcp_proxy` (key reference section 4.2): the clusters by the ends of a connection, and by its server name."""

from __future__ import annotations

from pymosn.core.address_ranges import End
from pymosn.core.addresses import split_address
from pymosn.core.server_names import wildcards_for


class StreamTarget:
    """The cluster of a connection, or several by weight. Immutable."""

    def __init__(self, clusters: list[tuple[str, int]]) -> None:
        """`clusters`: names and weights of at least 1; empty for none."""
        self.clusters = clusters
        self._total = sum([weight for _, weight in clusters])

    def choose(self, draw: float) -> str:
        """The cluster for a random number `draw` from 0 to below 1; empty if there is none."""
        left = int(draw * self._total)
        for name, weight in self.clusters:
            left -= weight
            if left < 0:
                return name
        return ""


class AddressRoute:
    """A route by source, destination and the server name that the client sends by TLS."""

    def __init__(self, target: StreamTarget, source: End | None, destination: End | None, names: list[str]) -> None:
        """None for an end that may be any. `names`: patterns; empty if the name may be any, or missing."""
        self.target = target
        self._source = source
        self._destination = destination
        self._names = frozenset(names)

    def matches(self, source: tuple[str, int], destination: tuple[str, int], server_name: str) -> bool:
        """Whether a connection between these two ends, IP address and port each, uses this route."""
        if self._names and not self._has_name(server_name):
            return False
        if self._source is not None and not self._source.matches(source[0], source[1]):
            return False
        return self._destination is None or self._destination.matches(destination[0], destination[1])

    def _has_name(self, name: str) -> bool:
        return name in self._names or not self._names.isdisjoint(wildcards_for(name))


def destination_of(original: str, ip: str, port: int) -> tuple[str, int]:
    """The destination of a connection: the original one if it was redirected, else the local address."""
    return split_address(original) if original else (ip, port)
