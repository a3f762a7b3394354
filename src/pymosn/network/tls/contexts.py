"""The TLS contexts of listeners, and the choice among those of one listener."""

from __future__ import annotations

import ssl

from pymosn.api.network import Security
from pymosn.network.tls.settings import ServerSettings
from pymosn.protocol.tls.hello import ClientHello


class ServerContext:
    """One context, ready for handshakes. Immutable; a change of its certificate makes another one."""

    def __init__(self, settings: ServerSettings, ssl_context: ssl.SSLContext, demand: bytes) -> None:
        """`demand`: identifies what is demanded of client certificates; see `TlsInfo.client_demand`."""
        self.settings = settings
        self.ssl_context = ssl_context
        self.demand = demand


class ServerContexts:
    """The contexts of one filter chain, in the order of the configuration."""

    def __init__(self, contexts: list[ServerContext]) -> None:
        self.contexts = contexts

    def choose(self, hello: ClientHello) -> ServerContext:
        """The context for a client, in MOSN's order: exact server name, wildcard, ALPN, the first one."""
        raise NotImplementedError

    def for_host(self, host: str) -> ServerContext:
        """The context for a client that sends `host` as its server name."""
        raise NotImplementedError


class ServerHandshake(Security):
    """The handshake to be made with one client."""

    def __init__(self, context: ServerContext, hello: ClientHello, protocol: str) -> None:
        """`protocol`: the ALPN protocol to be selected; empty for none."""
        super().__init__()
        self.context = context
        self.hello = hello
        self.protocol = protocol
