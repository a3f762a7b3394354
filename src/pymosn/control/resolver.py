"""Host name lookups for the supervisor, through the system's resolver or directly from DNS servers.

The system's resolver is the default: it uses /etc/hosts and everything else that the machine is configured for, but does not
report a time to live. For clusters with `respect_dns_ttl` or their own resolvers, DNS servers are queried with dnspython,
the optional dependency `dns`. c-ares would be smaller, but caches answers for their whole time to live, so that
`dns_refresh_rate` would have no effect.
"""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from pymosn.config.schema.cluster import Cluster
from pymosn.control.threads import off_loop
from pymosn.core.errors import reason
from pymosn.core.files import read_regular

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

#: Seconds for one lookup, as in MOSN.
LOOKUP_TIME: Final = 20.0
#: Defaults of resolv.conf(5): seconds per server, rounds over all servers, dots in an absolute name.
DEFAULT_TIMEOUT: Final = 5
DEFAULT_ATTEMPTS: Final = 2
DEFAULT_NDOTS: Final = 1
DEFAULT_FILE: Final = "/etc/resolv.conf"
#: Seconds for reading it, and its maximum size in bytes.
FILE_TIME: Final = 5.0
MAX_FILE: Final = 64 * 1024


class Servers(NamedTuple):
    """DNS servers and how to query them; without `addresses`, those of `file` (resolv.conf(5)). 0 means the default."""

    addresses: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    port: int = 53
    ndots: int = 0
    timeout: int = 0
    attempts: int = 0
    file: str = DEFAULT_FILE


class LookupOptions(NamedTuple):
    """Options for looking up the names of a cluster. `servers`: None for the system's resolver. `rate`: seconds."""

    family: socket.AddressFamily
    rate: float
    respects_ttl: bool = False
    servers: Servers | None = None


class Answer(NamedTuple):
    """The addresses of a name, sorted and without duplicates. `ttl`: their time to live in seconds; None if unknown."""

    addresses: list[str]
    ttl: int | None = None


#: Resolves a name; OSError or TimeoutError if there is no answer.
Lookup = Callable[[str, LookupOptions], Awaitable[Answer]]


def lookup_options(cluster: Cluster) -> LookupOptions:
    """The options that the cluster's configuration requires."""
    family = socket.AF_INET6 if cluster.dns_lookup_family == "V6_ONLY" else socket.AF_INET
    return LookupOptions(family, cluster.dns_refresh_rate, cluster.respect_dns_ttl, _servers(cluster))


def _servers(cluster: Cluster) -> Servers | None:
    block = cluster.dns_resolvers
    if block is not None and block.servers:
        port = int(block.port or "53")
        return Servers(tuple(block.servers), tuple(block.search), port, block.ndots, block.timeout, block.attempts)
    if cluster.server_keys():
        return Servers(port=int(cluster.dns_resolver_port or "53"), file=cluster.dns_resolver_file or DEFAULT_FILE)
    return None


async def look_up(name: str, options: LookupOptions) -> Answer:
    """Uses the DNS servers in `options`, or the system's resolver if there are none; see `Lookup`."""
    async with asyncio.timeout(LOOKUP_TIME):
        if options.servers is None:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, family=options.family, type=socket.SOCK_STREAM)
            return Answer(sorted({str(entry[4][0]) for entry in found}))
        return await _query(name, options.family, options.servers)


async def _query(name: str, family: socket.AddressFamily, servers: Servers) -> Answer:
    # Imported only when DNS servers are queried.
    from dns.exception import DNSException

    try:
        text = (
            ""
            if servers.addresses
            else (await off_loop(FILE_TIME, read_regular, servers.file, MAX_FILE)).decode(errors="replace")
        )
        resolver = _resolver(servers, text)
        answer = await resolver.resolve(name, "AAAA" if family == socket.AF_INET6 else "A", search=True)
    except DNSException as error:
        raise OSError(reason(error) or type(error).__name__) from error
    # The shortest time to live of all records in the chain, including aliases.
    ttl = int(answer.chaining_result.minimum_ttl)
    return Answer(sorted({str(record.address) for record in answer}), ttl)


def _resolver(servers: Servers, text: str) -> Resolver:
    """A resolver with the servers' addresses, or else those of `text`, the content of their file.

    Without a cache, because the refresh rate is controlled by `Discovery`.
    """
    from dns.asyncresolver import Resolver
    from dns.name import from_text

    if servers.addresses:
        resolver = Resolver(configure=False)
        resolver.nameservers = list(servers.addresses)
        resolver.search = [from_text(domain) for domain in servers.search]
        resolver.ndots = servers.ndots or DEFAULT_NDOTS
        resolver.timeout = float(servers.timeout or DEFAULT_TIMEOUT)
    else:
        resolver = Resolver(filename=io.StringIO(text))
    resolver.port = servers.port
    rounds = (servers.attempts or DEFAULT_ATTEMPTS) * max(1, len(resolver.nameservers))
    resolver.lifetime = min(resolver.timeout * rounds, LOOKUP_TIME)
    # Room for a hundred addresses in one datagram of the usual size; longer answers are requested again over TCP.
    resolver.use_edns(0, 0, 1232)
    return resolver
