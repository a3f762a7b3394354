"""The Java peers of each protocol, plain or with TLS."""

from __future__ import annotations

from interop.peers import LOOPBACK, Peer
from interop.tls import PASSWORD, Files


class World:
    """The peers of one protocol."""

    def __init__(self, protocol: str, provider: str, consumer: str, serialization: str = "") -> None:
        """`provider`, `consumer`: modules of the peers (dubbo2, dubbo3 or sofa). `serialization`: of Dubbo."""
        self.protocol = protocol
        self._provider = provider
        self._consumer = consumer
        self._serialization = serialization

    def provider(self, port: int, tls: Files | None = None) -> Peer:
        """A provider that is ready. `tls`: it serves TLS with these files, and demands a certificate."""
        if self._provider == "sofa":
            peer = Peer("sofa", "sofa.Provider", str(port), options=(*BAGGAGE, *_sofa("server", tls)))
        else:
            names = [str(port), "blue", "1.0.1", *([self._serialization] if self._serialization else [])]
            peer = Peer(self._provider, "dubbo.Provider", *names, options=_dubbo(tls))
        peer.expect("READY")
        return peer

    def consumer(self, port: int, *what: str, group: str = "blue", tls: Files | None = None) -> Peer:
        """A consumer that runs the command `what`."""
        if self._consumer == "sofa":
            options = (*BAGGAGE, *_sofa("client", tls))
            return Peer("sofa", "sofa.Consumer", f"bolt://127.0.0.1:{port}", *what, options=options)
        url = f"dubbo://{LOOPBACK}:{port}" + ("?ssl-enabled=true" if tls else "")
        if self._serialization:
            url += f"{'&' if tls else '?'}serialization={self._serialization}"
        return Peer(self._consumer, "dubbo.Consumer", url, group, "1.0.1", *what, options=_dubbo(tls))


#: SOFARPC carries own values in the headers of a call only on request.
BAGGAGE = ("-Dinvoke.baggage.enable=true",)

WORLDS = {
    "dubbo 2.7": World("dubbo", "dubbo2", "dubbo2"),
    "dubbo 3": World("dubbo", "dubbo3", "dubbo3"),
    "dubbo 3 calls 2.7": World("dubbo", "dubbo2", "dubbo3"),
    "dubbo 2.7 calls 3": World("dubbo", "dubbo3", "dubbo2"),
    "sofarpc": World("bolt", "sofa", "sofa"),
}

#: Dubbo in serializations that its own jar contains, and of which pymosn reads only what precedes the arguments.
SERIALIZATIONS = {name: World("dubbo", "dubbo2", "dubbo2", name) for name in ("java", "compactedjava", "nativejava")}


def _dubbo(tls: Files | None) -> tuple[str, ...]:
    """Options of the JVM for TLS in Dubbo."""
    return () if tls is None else (f"-Dinterop.tls={tls.folder}",)


def _sofa(side: str, tls: Files | None) -> tuple[str, ...]:
    """Options of the JVM for TLS in SOFABolt."""
    if tls is None:
        return ()
    own = {"enable": "true", "keystore": str(tls.store), "keystore.password": PASSWORD, "keystore.type": "PKCS12"}
    demands = ("-Dbolt.server.ssl.clientAuth=true",) if side == "server" else ()
    return (*(f"-Dbolt.{side}.ssl.{name}={value}" for name, value in own.items()), *demands)
