"""Network namespaces for tests with the kernel's routing and firewall: a client, the proxy, and servers behind it.

    client 10.77.1.1, fd77:1::1  --  10.77.1.2, fd77:1::2  proxy  10.77.2.2, fd77:2::2  --  origin 10.77.2.1, fd77:2::1

The calling thread is moved into the proxy's namespace, so that processes that it starts are in it too. Networks to which
clients connect (198.51.100.0/24, 2001:db8::/32) are the origin's, and the client has a route to them through the proxy.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

CLONE_NEWNET: Final = 0x40000000
CLIENT, PROXY, ORIGIN = "client", "proxy", "origin"
#: Addresses of the origin to which clients connect.
V4, V6 = "198.51.100.7", "2001:db8::7"

Result = TypeVar("Result")
_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """Raised if this kernel or user cannot have such namespaces; the text is the reason."""


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class NamedNamespaces:
    """Namespaces with names, until `close`. The calling thread is moved into the last one."""

    def __init__(self, *names: str) -> None:
        """Raises Unavailable."""
        for program in ("ip", "iptables", "ip6tables"):
            if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
                raise Unavailable(f"the program {program} is not installed")
        self._fds = {"": _current()}
        try:
            for name in names:
                _checked(_libc.unshare(CLONE_NEWNET))
                self._fds[name] = _current()
            self._connect()
            for name in names:
                self.run(name, "ip link set lo up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise Unavailable(str(error)) from error

    def _connect(self) -> None:
        """Adds the links between them."""

    def close(self) -> None:
        """Returns the thread to its own namespace."""
        self._enter("")
        for fd in self._fds.values():
            os.close(fd)

    def _enter(self, name: str) -> None:
        _checked(_libc.setns(self._fds[name], CLONE_NEWNET))

    def run(self, name: str, command: str) -> str:
        """Runs a command in a namespace, and returns its output. Raises CalledProcessError."""
        fd = self._fds[name]
        words = ["nsenter", f"--net=/proc/self/fd/{fd}", *command.split()]
        return subprocess.run(words, check=True, capture_output=True, text=True, pass_fds=[fd]).stdout

    def call(self, name: str, action: Callable[[], Result]) -> Result:
        """Calls `action` in a thread in that namespace. The sockets that it opens stay there."""
        results: list[Result] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                self._enter(name)
                results.append(action())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def _link(self, name: str, device: str) -> None:
        """A link from `device` of the calling thread's namespace to `eth0` of `name`."""
        fd = self._fds[name]
        words = f"ip link add {device} type veth peer name eth0 netns /proc/self/fd/{fd}".split()
        subprocess.run(words, check=True, capture_output=True, pass_fds=[fd])


class Namespaces(NamedNamespaces):
    """The client, the proxy and the origin."""

    def __init__(self) -> None:
        """Raises Unavailable."""
        super().__init__(CLIENT, ORIGIN, PROXY)

    def _connect(self) -> None:
        for number, name in ((1, CLIENT), (2, ORIGIN)):
            self._link(name, f"to_{name}")
            self._address(PROXY, f"to_{name}", number, 2)
            self._address(name, "eth0", number, 1)
        self.run(CLIENT, "ip route add default via 10.77.1.2")
        self.run(CLIENT, "ip -6 route add default via fd77:1::2")
        self.run(ORIGIN, f"ip address add {V4}/32 dev lo")
        self.run(ORIGIN, f"ip -6 address add {V6}/128 dev lo nodad")

    def _address(self, name: str, device: str, network: int, host: int) -> None:
        self.run(name, f"ip address add 10.77.{network}.{host}/24 dev {device}")
        self.run(name, f"ip -6 address add fd77:{network}::{host}/64 dev {device} nodad")
        self.run(name, f"ip link set {device} up")

    def route_to_origin(self, table: str = "main") -> None:
        """Gives the proxy a route to the origin's addresses, in one of its routing tables."""
        self.run(PROXY, f"ip route add 198.51.100.0/24 via 10.77.2.1 table {table}")
        self.run(PROXY, f"ip -6 route add 2001:db8::/32 via fd77:2::1 table {table}")

    def listen(self, address: str, port: int) -> socket.socket:
        """A socket that listens in the origin's namespace."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.call(ORIGIN, lambda: socket.create_server((address, port), family=family))

    def connect(self, address: str, port: int) -> socket.socket:
        """A client's connection."""
        return self.call(CLIENT, lambda: socket.create_connection((address, port), 20))


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def namespaces() -> Iterator[Namespaces]:
    """The namespaces of one test. Raises Unavailable."""
    made = Namespaces()
    try:
        yield made
    finally:
        made.close()
