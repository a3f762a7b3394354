"""A client and the proxy in two network namespaces, with a link between them that delays each packet.

    client 10.78.0.1  --  relay, DELAY seconds each way  --  10.78.0.2 proxy

Each namespace has a TUN device, and this file, run as a program, forwards the packets between them. So handshakes are half
open for two delays, as over a real network; on loopback they never are. Nothing outside the namespaces is changed.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from namespaces import NamedNamespaces

CLIENT, PROXY = "client", "proxy"
CLIENT_ADDRESS, PROXY_ADDRESS = "10.78.0.1", "10.78.0.2"
#: Seconds that each packet takes.
DELAY: Final = 0.02
#: ioctl(2) of linux/if_tun.h, and its flags for a device that carries IP packets without a header.
TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_PACKET: Final = 65536


class DelayedLink(NamedNamespaces):
    """The two namespaces; the calling thread is in the proxy's."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        self._relay: subprocess.Popen[bytes] | None = None
        super().__init__(CLIENT, PROXY)

    def _connect(self) -> None:
        devices = [self.call(name, _new_device) for name in (CLIENT, PROXY)]
        for name, address in ((CLIENT, CLIENT_ADDRESS), (PROXY, PROXY_ADDRESS)):
            self.run(name, f"ip address add {address}/30 dev tun0")
            self.run(name, "ip link set tun0 up")
        command = [sys.executable, __file__, *map(str, devices)]
        # It needs no module but those of Python.
        self._relay = subprocess.Popen(command, pass_fds=devices, env={"PYTHONPATH": os.path.dirname(__file__)})
        for device in devices:
            os.close(device)

    def close(self) -> None:
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
        super().close()

    def half_open(self) -> int:
        """Handshakes that the proxy has answered and the client has not yet completed."""
        table = self.call(PROXY, lambda: Path("/proc/thread-self/net/tcp").read_text())
        return sum(line.split()[3] == "03" for line in table.splitlines()[1:])  # TCP_SYN_RECV


@contextmanager
def delayed_link() -> Iterator[DelayedLink]:
    """The link of one test. Raises Unavailable."""
    made = DelayedLink()
    try:
        yield made
    finally:
        made.close()


def _new_device() -> int:
    """A TUN device `tun0` in the namespace of the calling thread."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN_NO_PI))
    return descriptor


def relay(first: int, second: int) -> None:
    """Forwards packets between two devices, each DELAY after it was sent, until it is killed."""
    selector = selectors.DefaultSelector()
    selector.register(first, selectors.EVENT_READ, second)
    selector.register(second, selectors.EVENT_READ, first)
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(timeout):
            try:
                while True:
                    count += 1
                    heapq.heappush(waiting, (time.monotonic() + DELAY, count, key.data, os.read(key.fd, _PACKET)))
            except BlockingIOError:
                pass
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            with suppress(OSError):  # its queue is full: the packet is lost, as on any network
                os.write(device, packet)


if __name__ == "__main__":
    relay(int(sys.argv[1]), int(sys.argv[2]))
