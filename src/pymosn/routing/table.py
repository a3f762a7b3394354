"""Route tables map a host to a virtual host and a request to a route. Immutable; changes create new tables."""

from __future__ import annotations

from collections.abc import Iterator

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.routing import Route
from pymosn.core.authority import split_authority
from pymosn.routing.index import RouteIndex, is_worthwhile


class VirtualHost:
    """Routes for some domains; the first match is used."""

    def __init__(self, name: str, domains: list[str], routes: list[Route], *, is_built: bool = True) -> None:
        """`is_built`: index `routes` now, instead of in the steps of `build`."""
        self.name = name
        self.domains = domains
        self.routes = routes
        self._index: RouteIndex | None = None
        if is_built:
            for _ in self.build():
                pass

    def build(self) -> Iterator[None]:
        """Indexes the routes in steps, before the first `find`."""
        if is_worthwhile(self.routes):
            index = RouteIndex(self.routes, is_built=False)
            yield from index.build()
            self._index = index

    def find(self, exchange: Exchange) -> Route | None:
        """The first route that matches the exchange's request, or None."""
        index = self._index
        if index is not None:
            return index.find(exchange)
        for route in self.routes:
            if route.matcher.matches(exchange):
                return route
        return None


class _Suffixes:
    """Wildcard domains: the longest suffix is used; the star must match at least one character."""

    def __init__(self) -> None:
        self._hosts: dict[bytes, VirtualHost] = {}
        self._lengths: list[int] = []

    def add(self, suffix: bytes, host: VirtualHost) -> None:
        if suffix in self._hosts:
            raise ValueError(f"two virtual hosts have the domain '*{suffix.decode()}'")
        self._hosts[suffix] = host
        self._lengths = sorted({*self._lengths, len(suffix)}, reverse=True)

    def find(self, name: bytes) -> VirtualHost | None:
        size: i64 = len(name)
        for length in self._lengths:
            if length < size:
                found = self._hosts.get(name[size - length :])
                if found is not None:
                    return found
        return None


class RouteTable:
    """One router of the configuration.

    Domains are matched in MOSN's order (key reference section 6.3): exact host and port, exact host with any port, wildcard
    with port, wildcard with any port, default. Unlike in MOSN, a domain without a port also matches that host on any port if
    no other domain specifies the port, and a request without a host uses the default.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: In the order of the configuration.
        self.virtual_hosts: list[VirtualHost] = []
        self._exact: dict[bytes, VirtualHost] = {}
        self._any_port: dict[bytes, VirtualHost] = {}
        # By port: empty for none, `*` for any.
        self._suffix: dict[bytes, _Suffixes] = {}
        self._default: VirtualHost | None = None
        self._only_default = True

    def add(self, virtual_host: VirtualHost) -> None:
        """Adds a virtual host. Raises ValueError for a duplicate or malformed domain."""
        self.virtual_hosts.append(virtual_host)
        for domain in virtual_host.domains:
            self._add_domain(domain.lower().encode(), virtual_host)

    def alike(self) -> RouteTable:
        """An empty table that matches domains in the same way."""
        return RouteTable("")

    def _add_domain(self, domain: bytes, virtual_host: VirtualHost) -> None:
        if domain in (b"*", b"*:*"):
            if self._default is not None:
                raise ValueError("two virtual hosts have the default domain *")
            self._default = virtual_host
            return
        self._only_default = False
        parts = split_authority(domain)
        name, port = parts.host, parts.port
        if b"*" in name[1:] or not name:
            raise ValueError(f"domain {domain.decode()!r}: `*` is only allowed at the start")
        if name.startswith(b"*"):
            self._suffix.setdefault(port, _Suffixes()).add(name[1:], virtual_host)
            return
        table = self._any_port if port == b"*" else self._exact
        key = name if port == b"*" else domain
        if key in table:
            raise ValueError(f"two virtual hosts have the domain {domain.decode()!r}")
        table[key] = virtual_host

    def find_virtual_host(self, authority: bytes) -> VirtualHost | None:
        """The virtual host for a lower-case `authority` (host with optional port), or None."""
        if self._only_default:
            return self._default
        found = self._exact.get(authority)
        if found is not None:
            return found
        parts = split_authority(authority)
        name, port = parts.host, parts.port
        found = self._any_port.get(name)
        if found is None and port:
            found = self._exact.get(name)
        return self._find_suffix(name, port) if found is None else found

    def _find_suffix(self, name: bytes, port: bytes) -> VirtualHost | None:
        for domain_port in (port, b"*", b""):
            suffixes = self._suffix.get(domain_port)
            found = None if suffixes is None else suffixes.find(name)
            if found is not None:
                return found
        return self._default


class _Prefixes:
    """Domains that end in a wildcard: the longest prefix is used; the star must match at least one character."""

    def __init__(self) -> None:
        self._hosts: dict[bytes, VirtualHost] = {}
        self._lengths: list[int] = []

    def add(self, prefix: bytes, host: VirtualHost) -> None:
        if prefix in self._hosts:
            raise ValueError(f"two virtual hosts have the domain '{prefix.decode()}*'")
        self._hosts[prefix] = host
        self._lengths = sorted({*self._lengths, len(prefix)}, reverse=True)

    def find(self, name: bytes) -> VirtualHost | None:
        size: i64 = len(name)
        for length in self._lengths:
            if length < size:
                found = self._hosts.get(name[:length])
                if found is not None:
                    return found
        return None


class EnvoyTable(RouteTable):
    """A table whose domains are matched in Envoy's way.

    Exact, then the longest `*suffix`, then the longest `prefix*`, then `*`. A domain is compared with the whole authority,
    including its port, or with the host alone.
    """

    def __init__(self, name: str, ignores_port: bool) -> None:
        super().__init__(name)
        self._ignores_port = ignores_port
        self._suffixes = _Suffixes()
        self._prefixes = _Prefixes()

    def alike(self) -> RouteTable:
        return EnvoyTable("", self._ignores_port)

    def _add_domain(self, domain: bytes, virtual_host: VirtualHost) -> None:
        if domain == b"*":
            if self._default is not None:
                raise ValueError("two virtual hosts have the default domain *")
            self._default = virtual_host
            return
        self._only_default = False
        if domain.startswith(b"*"):
            self._suffixes.add(domain[1:], virtual_host)
        elif domain.endswith(b"*"):
            self._prefixes.add(domain[:-1], virtual_host)
        elif domain in self._exact:
            raise ValueError(f"two virtual hosts have the domain {domain.decode()!r}")
        else:
            self._exact[domain] = virtual_host

    def find_virtual_host(self, authority: bytes) -> VirtualHost | None:
        if self._only_default:
            return self._default
        name = split_authority(authority).host if self._ignores_port else authority
        found = self._exact.get(name)
        if found is None:
            found = self._suffixes.find(name)
        if found is None:
            found = self._prefixes.find(name)
        return self._default if found is None else found


class TableSlot:
    """The current table of a name, which listeners refer to; a configuration change replaces the table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.table: RouteTable | None = None
