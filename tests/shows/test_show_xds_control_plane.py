"""Issue 16, show 3: the control plane is killed, restarted, empty and lying under load; no request fails."""

import time
from collections.abc import Callable

from google.protobuf import any_pb2
from process_fixtures import Start, upstream
from pymosn_process import Upstream, eventually, free_ports
from showing import sized, tell
from tests.kit.xds_server import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from xds_peers import Mesh, Traffic, answered, eds, hosts, listens, routes

from load_client import summary

__all__ = ["upstream"]

#: As many as are not removed at once by an empty first answer.
ITEMS = 10


def fill(mesh: Mesh, upstream_port: int) -> list[int]:
    """Listeners, tables and clusters; returns the ports."""
    ports = free_ports(ITEMS)
    for number, port in enumerate(ports):
        name = f"n{number}"
        mesh.put(eds(name), hosts(name, upstream_port), routes(name, name), listens(name, port, name))
    assert eventually(lambda: all(answered(port) == 200 for port in ports))
    return ports


def lie(mesh: Mesh) -> None:
    """Garbage, other types than it says, wrong names, versions that flap, and a stream that ends in the middle."""
    for stream in mesh.control.open_streams():
        garbage = any_pb2.Any(type_url=CLUSTER, value=b"\xff\xff\xff")
        stream.send_sotw(ENDPOINTS, routes("n0", "nowhere"), version="wrong-type", nonce="lie-1")
        stream.send_sotw(ROUTES, any_pb2.Any(type_url=ROUTES, value=b"\x08"), version="", nonce="lie-2")
        stream.send_sotw(ENDPOINTS, hosts("never-asked-for", 1), version="-1", nonce="lie-3")
        stream.send_sotw("type.googleapis.com/example.Lie", version="1", nonce="lie-4")
        for version in ("9", "1", "9", "1"):
            stream.send_sotw(ENDPOINTS, hosts("n0", 70000), garbage, version=version, nonce=f"flap-{version}")
        stream.send(b"\xff\xff not a message")


def outage(mesh: Mesh) -> None:
    mesh.control.stop()


def back(mesh: Mesh) -> None:
    mesh.control.stop()
    mesh.control.start()
    mesh.control.wait(mesh.control.open_streams)


def empty(mesh: Mesh) -> None:
    """It restarts without any resource, says so, and learns of them a moment later."""
    mesh.control.stop()
    mesh.control.is_empty = True
    mesh.control.start()
    assert eventually(lambda: len(mesh.view()["held_removals"]) == 2 * ITEMS), mesh.view()["held_removals"]
    mesh.control.is_empty = False
    for type_url in (CLUSTER, LISTENER, ENDPOINTS, ROUTES):
        mesh.control.answer(type_url)
    assert eventually(lambda: mesh.view()["held_removals"] == [])


EVILS: tuple[Callable[[Mesh], None], ...] = (outage, back, lie, empty, lie, back)


@sized("seconds", 3.0, 20.0)
def test_no_request_fails_whatever_the_control_plane_does(start: Start, upstream: Upstream, seconds: float) -> None:
    mesh = Mesh(start)
    try:
        port = fill(mesh, int(upstream.port))[0]
        began, rounds = time.monotonic(), 0
        with Traffic(port) as traffic:
            while rounds < len(EVILS) or time.monotonic() < began + seconds:
                EVILS[rounds % len(EVILS)](mesh)
                rounds += 1
                assert traffic.goes_on(), summary(traffic.failed)
        tell("a control plane that fails", requests=len(traffic.asked), failed=len(traffic.failed), evils=rounds)
        # Without it, a restart serves from the cache.
        assert eventually(lambda: not mesh.view()["waiting"])
        mesh.control.stop()
        mesh.proxy.process.terminate()
        assert mesh.proxy.exit_code() == 0
        mesh.start().wait_for("resources from the cache")
        assert eventually(lambda: answered(port) == 200)
        with Traffic(port) as traffic:
            assert traffic.goes_on(100)
    finally:
        mesh.control.stop()
