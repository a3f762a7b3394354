"""Which sockets a worker serves, and that no socket of a group is closed while its address is served."""

import os
import socket
from collections.abc import Sequence

from pymosn.config.schema import Listener
from pymosn.server.listeners import ListenerSockets
from pymosn.server.messages import Command, Sockets
from pymosn.server.socket_groups import SocketGroup
from pymosn.server.sockets import bind_tcp, close_all


def inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


def inodes(commands: Sequence[tuple[Command, Sequence[int]]]) -> dict[str, list[int]]:
    """The sockets in commands, by listener."""
    found: dict[str, list[int]] = {}
    for command, descriptors in commands:
        assert isinstance(command, Sockets)
        for name, descriptor in zip(command.listeners, descriptors, strict=True):
            found.setdefault(name, []).append(inode(descriptor))
    return found


def of_workers(sockets: ListenerSockets, workers: int) -> list[dict[str, list[int]]]:
    return [inodes(sockets.handover(worker)) for worker in range(1, workers + 1)]


def tcp(name: str, address: str, network: str = "tcp") -> Listener:
    return Listener(name=name, address=address, network=network, bind_port=True)


def fixed(sockets: ListenerSockets, name: str, workers: int, network: str = "tcp") -> str:
    """Binds a listener to a port that is then written in its configuration; returns its address."""
    assert sockets.bind([tcp(name, "127.0.0.1:0", network)], workers) == []
    address = sockets.addresses()[name].removeprefix("udp:")
    sockets.close()
    assert sockets.bind([tcp(name, address, network)], workers) == []
    return address


def test_each_socket_of_a_group_has_one_worker_whatever_their_number() -> None:
    sockets = bind_tcp("listener a", "127.0.0.1", 0, 4)
    group = SocketGroup(sockets)
    for workers in (1, 2, 3, 4, 6):
        served = [group.of_worker(worker, workers) for worker in range(1, workers + 1)]
        assert sorted(sock.fileno() for each in served for sock in each) == sorted(sock.fileno() for sock in sockets)
        sizes = [len(each) for each in served]
        assert max(sizes) - min(sizes) <= 1
        for index, sock in enumerate(sockets):
            assert sock in served[group.owner_of(index, workers) - 1]
    close_all(sockets)


def test_a_shared_socket_is_served_by_all_and_watched_for_none() -> None:
    with socket.socket() as sock:
        group = SocketGroup([sock], is_shared=True)
        assert [group.of_worker(worker, 3) for worker in (1, 2, 3)] == [[sock]] * 3
        assert (group.owner_of(0, 3), group.owner_of(0, 1)) == (0, 1)


def test_a_renamed_listener_has_the_same_sockets() -> None:
    for network in ("tcp", "udp"):
        sockets = ListenerSockets()
        address = fixed(sockets, "a", 2, network)
        before = of_workers(sockets, 2)
        assert sockets.prepare([tcp("b", address, network)], 2) == []
        assert [inodes(sockets.handover_new(worker)) for worker in (1, 2)] == [{"b": each["a"]} for each in before]
        unneeded = sockets.activate()
        assert len(unneeded) == 2
        close_all(unneeded)
        assert of_workers(sockets, 2) == [{"b": each["a"]} for each in before]
        sockets.close()


def test_two_listeners_that_change_places_change_sockets() -> None:
    sockets = ListenerSockets()
    first = fixed(sockets, "a", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = f"127.0.0.1:{taken.getsockname()[1]}"
    assert sockets.prepare([tcp("a", first), tcp("b", second)], 1) == []
    close_all(sockets.activate())
    (before,) = of_workers(sockets, 1)
    assert sockets.prepare([tcp("a", second), tcp("b", first)], 1) == []
    close_all(sockets.activate())
    assert of_workers(sockets, 1) == [{"a": before["b"], "b": before["a"]}]
    sockets.close()


def test_an_abandoned_change_leaves_the_sockets_to_the_old_name() -> None:
    sockets = ListenerSockets()
    address = fixed(sockets, "a", 2)
    before = of_workers(sockets, 2)
    assert sockets.prepare([tcp("b", address)], 2) == []
    sockets.abandon()
    assert of_workers(sockets, 2) == before
    (group,) = sockets._sockets.values()
    group.sockets[0].listen()
    socket.create_connection(group.sockets[0].getsockname(), 5).close()
    sockets.close()


def test_a_listener_whose_sockets_were_closed_on_request_is_bound_again_under_another_name() -> None:
    sockets = ListenerSockets()
    address = fixed(sockets, "a", 1)
    sockets.close_some(["a"])
    assert sockets.prepare([tcp("b", address)], 1) == []
    assert sockets.activate() == []
    assert sockets.addresses() == {"b": address}
    sockets.close()


def test_sockets_that_another_process_keeps_are_named() -> None:
    sockets = ListenerSockets()
    address = fixed(sockets, "a", 1)
    sockets._sockets["a"].is_kept = True
    ((command, _),) = sockets.handover(1)
    assert command == Sockets(["a"], ["a"])
    assert address
    sockets.close()
