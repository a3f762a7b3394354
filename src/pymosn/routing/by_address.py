"""Routes of `tcp_proxy` (key reference section 4.2): the cluster by the addresses of both ends of a connection."""

from __future__ import annotations

from pymosn.core.address_ranges import End
from pymosn.core.addresses import split_address


class AddressRoute:
    """A route by source and destination."""

    def __init__(self, cluster: str, source: End, target: End) -> None:
        self.cluster = cluster
        self._source = source
        self._target = target

    def matches(self, source: tuple[str, int], target: tuple[str, int]) -> bool:
        """Whether a connection between these two ends, IP address and port each, uses this route."""
        return self._source.matches(source[0], source[1]) and self._target.matches(target[0], target[1])


def destination_of(original: str, ip: str, port: int) -> tuple[str, int]:
    """The destination of a connection: the original one if it was redirected, else the local address."""
    return split_address(original) if original else (ip, port)
