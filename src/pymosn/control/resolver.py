"""Looking up host names for the supervisor: by the system, or by asking DNS servers, which also tell how long answers hold.

The system's way is the default: it knows /etc/hosts and whatever else the machine is set up to ask, but no time to live. A
cluster with `respect_dns_ttl` or resolvers of its own is asked for over DNS, by dnspython (the extra `dns`). c-ares would be
smaller, but keeps answers for their whole time to live, so that `dns_refresh_rate` would mean nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from pymosn.config.schema.cluster import Cluster

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

#: Seconds for one look-up, as in MOSN.
LOOKUP_TIME: Final = 20.0
#: What resolv.conf(5) takes by default: seconds for one server, rounds over all of them, dots of an absolute name.
DEFAULT_TIMEOUT: Final = 5
DEFAULT_ATTEMPTS: Final = 2
DEFAULT_NDOTS: Final = 1
DEFAULT_FILE: Final = "/etc/resolv.conf"


class Servers(NamedTuple):
    """Which DNS servers are asked, and how; without `addresses` those of `file` (resolv.conf(5)). 0 is the default."""

    addresses: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    port: int = 53
    ndots: int = 0
    timeout: int = 0
    attempts: int = 0
    file: str = DEFAULT_FILE


class Wish(NamedTuple):
    """How the names of a cluster are looked up. `servers`: None for the system's own way. `rate`: seconds."""

    family: socket.AddressFamily
    rate: float
    respects_ttl: bool = False
    servers: Servers | None = None


class Answer(NamedTuple):
    """The addresses of a name, each once, in a stable order. `ttl`: seconds for which they hold; None when nobody says."""

    addresses: list[str]
    ttl: int | None = None


#: What a name has; OSError or TimeoutError when there is no answer.
Lookup = Callable[[str, Wish], Awaitable[Answer]]


def wish_of(cluster: Cluster) -> Wish:
    """What the cluster's configuration asks for."""
    family = socket.AF_INET6 if cluster.dns_lookup_family == "V6_ONLY" else socket.AF_INET
    return Wish(family, cluster.dns_refresh_rate, cluster.respect_dns_ttl, _servers(cluster))


def _servers(cluster: Cluster) -> Servers | None:
    block = cluster.dns_resolvers
    if block is not None and block.servers:
        return Servers(
            tuple(block.servers),
            tuple(block.search),
            int(block.port or "53"),
            block.ndots,
            block.timeout,
            block.attempts,
        )
    if cluster.server_keys():
        return Servers(port=int(cluster.dns_resolver_port or "53"), file=cluster.dns_resolver_file or DEFAULT_FILE)
    return None


async def look_up(name: str, wish: Wish) -> Answer:
    """Asks the system or, if the wish names servers, these; see `Lookup`."""
    async with asyncio.timeout(LOOKUP_TIME):
        if wish.servers is None:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, family=wish.family, type=socket.SOCK_STREAM)
            return Answer(sorted({str(entry[4][0]) for entry in found}))
        return await _ask(name, wish.family, wish.servers)


async def _ask(name: str, family: socket.AddressFamily, servers: Servers) -> Answer:
    # Only who asks DNS servers pays for the library.
    from dns.exception import DNSException

    try:
        resolver = _resolver(servers)
        answer = await resolver.resolve(name, "AAAA" if family == socket.AF_INET6 else "A", search=True)
    except DNSException as error:
        raise OSError(str(error) or type(error).__name__) from error
    # The shortest time of all records on the way, aliases among them.
    ttl = int(answer.chaining_result.minimum_ttl)
    return Answer(sorted({str(record.address) for record in answer}), ttl)


def _resolver(servers: Servers) -> Resolver:
    """A resolver that remembers nothing: how often a name is asked for is decided elsewhere."""
    from dns.asyncresolver import Resolver
    from dns.name import from_text

    if servers.addresses:
        resolver = Resolver(configure=False)
        resolver.nameservers = list(servers.addresses)
        resolver.search = [from_text(domain) for domain in servers.search]
        resolver.ndots = servers.ndots or DEFAULT_NDOTS
        resolver.timeout = float(servers.timeout or DEFAULT_TIMEOUT)
    else:
        resolver = Resolver(filename=servers.file)
    resolver.port = servers.port
    rounds = (servers.attempts or DEFAULT_ATTEMPTS) * max(1, len(resolver.nameservers))
    resolver.lifetime = min(resolver.timeout * rounds, LOOKUP_TIME)
    # Room for a hundred addresses in one datagram of the usual size; what does not fit is asked for again over TCP.
    resolver.use_edns(0, 0, 1232)
    return resolver
