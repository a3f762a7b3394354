"""Clients of every kind at once: good ones, slow ones, and such as leave in the middle."""

import asyncio
import contextlib
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.kit import certificates
from tests.kit.tls_streams import open_tls
from tests.load.h2_traffic import H2_TALKS, H2Connection
from tests.load.upstreams import read_body, reset

Talk = Callable[["Traffic", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

#: Seconds that any one talk may take, whatever the proxy does; none should come near.
PATIENCE = 40.0


#: The share of connections with TLS, where there is a port for them.
SECURE_SHARE = 0.4
#: The share of talks in HTTP/2, where there are ports for it.
H2_SHARE = 0.4
NAME = "server.test"


class Traffic:
    """Mixed traffic to one port. `outcomes` counts statuses, and ends of connections by kind of talk."""

    def __init__(self, port: int, seed: int, secure_port: int = 0, h2_ports: tuple[int, int] | None = None) -> None:
        """`secure_port`: with TLS; 0 for none. `h2_ports`: for HTTP/2, without and with TLS."""
        self.secure_port = secure_port
        self._h2_ports = h2_ports
        self._h2_context = certificates.client_context(alpn=("h2",))
        self.context = certificates.client_context()
        self.session: ssl.SSLSession | None = None
        self.outcomes: Counter[str] = Counter()
        self.random = random.Random(seed)
        self._port = port
        self._until = 0.0

    async def run(self, seconds: float, actors: int) -> None:
        """Talks for that time, `actors` at once."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        await asyncio.gather(*[self._act() for _ in range(actors)])

    async def _act(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            if self._h2_ports is not None and self.random.random() < H2_SHARE:
                await self._hold_h2(self._h2_ports)
                continue
            talk = self.random.choice(TALKS)
            shake = self.random.choice(HANDSHAKES) if self.secure_port and self.random.random() < SECURE_SHARE / 2 else None
            name = talk.__name__ if shake is None else shake.__name__
            try:
                async with asyncio.timeout(PATIENCE):
                    await (self._hold(talk) if shake is None else self._attack(shake))
            except TimeoutError:
                self.outcomes[f"{name} hangs"] += 1
            await asyncio.sleep(self.random.uniform(0.0, 0.04))

    async def _hold(self, talk: Talk) -> None:
        is_secure = self.secure_port > 0 and self.random.random() < SECURE_SHARE
        port = self.secure_port if is_secure else self._port
        more = {"ssl": self.context, "server_hostname": NAME} if is_secure else {}
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20, **more)
        except OSError:
            self.outcomes["no connection"] += 1
            return
        self.outcomes["with TLS"] += is_secure
        try:
            await talk(self, reader, writer)
        except (OSError, EOFError):
            self.outcomes[f"{talk.__name__} cut"] += 1
        finally:
            writer.close()

    async def _hold_h2(self, ports: tuple[int, int]) -> None:
        talk = self.random.choice(H2_TALKS)
        is_secure = self.random.random() < SECURE_SHARE
        more = {"ssl": self._h2_context, "server_hostname": NAME} if is_secure else {}
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", ports[is_secure], limit=1 << 20, **more)
                try:
                    await talk(H2Connection(self.outcomes, self.random, reader, writer))
                finally:
                    writer.close()
        except TimeoutError:
            self.outcomes[f"h2 {talk.__name__} hangs"] += 1
        except OSError:
            self.outcomes[f"h2 {talk.__name__} cut"] += 1

    async def _attack(self, shake: Callable[["Traffic"], Awaitable[None]]) -> None:
        try:
            await shake(self)
        except OSError:
            self.outcomes[f"{shake.__name__} cut"] += 1

    async def reply(self, reader: asyncio.StreamReader) -> bool:
        """Reads one reply; whether another request may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        await read_body(head, reader)
        self.outcomes[head[9:12].decode()] += 1
        return b"connection: close" not in head.lower()


def get(path: str = "/small") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a.example\r\nUser-Agent: soak\r\n\r\n".encode()


def post(size: int) -> bytes:
    return b"POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % size


async def keep_alive(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(traffic.random.randrange(1, 30)):
        writer.write(get())
        if not await traffic.reply(reader):
            return


async def one_request(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(get("/big" if traffic.random.random() < 0.2 else "/small"))
    await traffic.reply(reader)


async def pipeline(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    count = traffic.random.randrange(2, 8)
    writer.write(get() * count)
    for _ in range(traffic.random.randrange(count + 1)):
        if not await traffic.reply(reader):
            return


async def upload(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size = traffic.random.randrange(1, 400_000)
    if traffic.random.random() < 0.5:
        writer.write(post(size))
        for start in range(0, size, 50_000):
            writer.write(b"u" * min(50_000, size - start))
            await asyncio.sleep(0.002)
    else:
        writer.write(b"POST /up HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(traffic.random.randrange(1, 20)):
            writer.write(b"1000\r\n" + b"c" * 4096 + b"\r\n")
        writer.write(b"0\r\n\r\n")
    await traffic.reply(reader)


async def abort(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leaves after any byte of a request, or while the reply is on its way, with a FIN or a RST."""
    request = traffic.random.choice((get(), get("/big"), post(1000) + b"a" * 1000))
    cut = traffic.random.randrange(len(request) + 1)
    writer.write(request[:cut])
    await asyncio.sleep(traffic.random.choice((0.0, 0.001, 0.01, 0.05)))
    if traffic.random.random() < 0.5:
        reset(writer)


async def slow_head(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in get():
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.03)
    await traffic.reply(reader)


async def slow_body(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(10_000))
    for _ in range(60):
        writer.write(b"s")
        await asyncio.sleep(0.05)
        if reader.at_eof():
            return
    await traffic.reply(reader)


async def slow_reader(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(get("/big"))
    for _ in range(20):
        if not await reader.read(5000):
            return
        await asyncio.sleep(0.03)


async def nonsense(traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(traffic.random.randbytes(traffic.random.randrange(1, 300)))
    if traffic.random.random() < 0.5 and writer.can_write_eof():
        writer.write_eof()
    await traffic.reply(reader)


async def resumed(traffic: Traffic) -> None:
    """A handshake, with the session of the last one, and one request."""
    session = traffic.session
    reader, writer = await open_tls("127.0.0.1", traffic.secure_port, traffic.context, NAME, session=session)
    writer.write(get())
    await reader.read(1 << 16)
    traffic.outcomes["resumed"] += writer.is_resumed
    traffic.session = writer.session
    writer.write_eof()
    writer.close()


async def truncated(traffic: Traffic) -> None:
    """A FIN without close_notify behind any byte of a request."""
    reader, writer = await open_tls("127.0.0.1", traffic.secure_port, traffic.context, NAME)
    request = post(1000) + b"t" * 1000
    writer.write(request[: traffic.random.randrange(1, len(request))])
    writer.cut()
    try:
        while await reader.read(1 << 16):
            pass
    finally:
        writer.close()


async def half_a_handshake(traffic: Traffic) -> None:
    """Leaves within its ClientHello or after it, by a FIN, a RST, or when the proxy has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", traffic.secure_port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = traffic.context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    hello = outgoing.read()
    writer.write(hello[: traffic.random.randrange(1, 2 * len(hello))])
    way = traffic.random.randrange(3)
    try:
        if way == 0:
            reset(writer)
        elif way == 1:
            await reader.read()
    finally:
        writer.close()


HANDSHAKES: tuple[Callable[[Traffic], Awaitable[None]], ...] = (resumed, resumed, truncated, half_a_handshake)


TALKS: tuple[Talk, ...] = (
    *(keep_alive, keep_alive, keep_alive, one_request, one_request, pipeline, upload, upload),
    *(abort, abort, slow_head, slow_body, slow_reader, nonsense),
)
