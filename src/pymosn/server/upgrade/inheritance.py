"""What a successor gets from its predecessor before it starts: sockets and state.

It is read before anything else is done, so that a fault of the configuration can be reported to who asked for the upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterable, MutableMapping
from typing import Final, NamedTuple

from pymosn.server.channel import Channel, frame
from pymosn.server.upgrade.carried import Parts
from pymosn.server.upgrade.messages import (
    FROM_PREDECESSOR,
    OLDEST,
    VERSION,
    Carried,
    CarriedPart,
    Complete,
    Estate,
    FromPredecessor,
    Held,
    HeldSocket,
    Refused,
)

#: The environment variable with the number of the successor's end of the channel.
VARIABLE: Final = "PYMOSN_INHERIT"
#: Seconds in which the next message must arrive, and in which a refusal must be sent.
TIME: Final = 20.0


class InheritanceError(Exception):
    """The predecessor has sent nothing usable; the text is the reason."""


class Owned(NamedTuple):
    """A socket, and what it was used for."""

    held: HeldSocket
    sock: socket.socket


class Inheritance:
    """Sockets and state of the predecessor. `sock`: the channel to it."""

    def __init__(
        self, sock: socket.socket, estate: Estate, owned: Iterable[Owned] = (), carried: Iterable[Carried] = ()
    ) -> None:
        self.sock: Final = sock
        self.estate: Final = estate
        self.carried: Final = list(carried)
        self._spare: Final = list(owned)
        self._is_over = False

    def take(self, owner: str, network: str, address: str, is_transparent: bool = False, most: int = 0) -> list[Owned]:
        """Takes the sockets with this use and address, in the order of their indexes; at most `most` of them, 0: all.

        Not a unix socket whose file is gone: no client can reach it any more.
        """

        def matches(held: HeldSocket) -> bool:
            wanted = (owner, network, address, is_transparent)
            return (held.owner, held.network, held.address, held.is_transparent) == wanted and not _has_lost_file(held)

        found = sorted((each for each in self._spare if matches(each.held)), key=lambda each: each.held.index)
        found = found[:most] if most else found
        for each in found:
            self._spare.remove(each)
        return found

    def state(self, kind: str) -> bytes | None:
        """The content of one kind; None if it was not sent."""
        return next((each.content for each in self.carried if each.kind == kind), None)

    def spare_listeners(self) -> set[str]:
        """The names of listeners whose sockets are not used here."""
        return {each.held.name for each in self._spare if each.held.owner == "listener"}

    def put_back(self, owned: Iterable[Owned]) -> None:
        """Returns sockets that are not used after all. When the takeover is over they are closed."""
        for each in owned:
            if self._is_over:
                each.sock.close()
            else:
                self._spare.append(each)

    def has_address(self, network: str, address: str) -> bool:
        """Whether the predecessor has an address, for whatever use."""
        return any((each.held.network, each.held.address) == (network, address) for each in self._spare)

    def close_spare(self) -> list[int]:
        """Closes the sockets that are left, and removes their files: the predecessor leaves now. Returns their inodes."""
        self._is_over = True
        dropped = []
        while self._spare:
            held, sock = self._spare.pop()
            dropped.append(os.fstat(sock.fileno()).st_ino)
            sock.close()
            if held.inode and inode(held.address) == held.inode:
                with contextlib.suppress(OSError):
                    os.unlink(held.address)
        return dropped

    def refuse(self, lines: list[str], is_config_fault: bool = False) -> None:
        """Reports to the predecessor why this process cannot start."""
        self.close()
        with contextlib.suppress(OSError):
            self.sock.settimeout(TIME)
            self.sock.sendall(frame(Refused(lines, is_config_fault)))
        self.sock.close()

    def close(self) -> None:
        """Closes the spare sockets; their files stay, because they are the predecessor's."""
        while self._spare:
            self._spare.pop().sock.close()


def _has_lost_file(held: HeldSocket) -> bool:
    return held.network == "unix" and not held.is_kept and held.address[:1] != "@" and inode(held.address) is None


def inode(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if it is gone."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None


def inherit(environment: MutableMapping[str, str]) -> Inheritance | None:
    """What the predecessor named in the environment sends; None if there is none. InheritanceError if it is unusable.

    The variable is removed, so that no process that is started later takes it for its own.
    """
    number = environment.pop(VARIABLE, None)
    if number is None:
        return None
    sock = _socket(number)
    try:
        return asyncio.run(_receive(sock))
    except InheritanceError as error:
        Inheritance(sock, Estate(VERSION, "", 0, 0)).refuse([str(error)])
        raise


def _socket(number: str) -> socket.socket:
    try:
        descriptor = int(number)
        if descriptor < 3 or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise ValueError("not a socket")
        os.set_inheritable(descriptor, False)
        return socket.socket(fileno=descriptor)
    except (OSError, ValueError) as error:
        raise InheritanceError(f"the environment variable {VARIABLE}={number!r} names no socket") from error


async def _receive(sock: socket.socket) -> Inheritance:
    """Receives everything up to `Complete`."""
    receiver = _Receiver()
    loop = asyncio.get_running_loop()
    channel: Channel[FromPredecessor] = Channel(loop, sock.dup(), FROM_PREDECESSOR, receiver.on_message, receiver.fail)
    try:
        while not receiver.is_done:
            receiver.news.clear()
            async with asyncio.timeout(TIME):
                await receiver.news.wait()
    except TimeoutError:
        receiver.fail(f"nothing for {TIME:g} s")
    channel.close()
    if receiver.fault or receiver.estate is None:
        receiver.close()
        raise InheritanceError(f"the old process cannot be taken over: {receiver.fault or 'its first message is missing'}")
    return Inheritance(sock, receiver.estate, receiver.owned, receiver.carried)


class _Receiver:
    """Collects the messages."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.is_done = False
        self.fault = ""
        self.estate: Estate | None = None
        self.owned: list[Owned] = []
        self.carried: list[Carried] = []
        self._parts = Parts()

    def on_message(self, message: FromPredecessor, descriptors: list[int]) -> None:
        self.news.set()
        if isinstance(message, Held) and len(message.sockets) == len(descriptors):
            self.owned += [
                Owned(held, socket.socket(fileno=descriptor))
                for held, descriptor in zip(message.sockets, descriptors, strict=True)
            ]
            return
        for descriptor in descriptors:
            os.close(descriptor)
        match message:
            case Estate():
                self.estate = message
                if not OLDEST <= message.version <= VERSION:
                    self.fail(f"it speaks version {message.version} of the messages, this process {OLDEST} to {VERSION}")
            case CarriedPart():
                self._parts.add(message)
            case Carried():
                self.carried.append(self._parts.whole(message))
            case Complete():
                self.is_done = True
            case _:
                self.fail(f"unexpected {type(message).__name__}")

    def fail(self, reason: str) -> None:
        self.fault = self.fault or reason
        self.is_done = True
        self.news.set()

    def close(self) -> None:
        for each in self.owned:
            each.sock.close()
