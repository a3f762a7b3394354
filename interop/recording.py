"""Runs the Java peers against each other through a relay, and extracts named frames from the recorded bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from interop.frames import Frame, bolt, dubbo
from interop.peers import LOOPBACK, Peer, provider_ports, steps_of
from interop.relay import Relay

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"
Frames = dict[str, bytes]
Split = Callable[[bytes], list[Frame]]


def _calls(relay: Relay, split: Split, names: list[str]) -> Frames:
    """The frames of the calls, named after the steps in order."""
    frames: Frames = {}
    steps = iter(names)
    for connection in relay.connections:
        called: dict[int, str] = {}
        for frame in split(bytes(connection.sent)):
            if frame.request and not frame.event:
                name = next(steps)
                frames[f"{name}.request"] = frame.raw
                if not frame.one_way:
                    called[frame.request_id] = name
        for frame in split(bytes(connection.received)):
            if not frame.request and not frame.event:
                frames[f"{called.pop(frame.request_id)}.reply"] = frame.raw
        assert not called, f"no response to {called}"
    assert next(steps, None) is None, "fewer requests than steps"
    return frames


def _events(relay: Relay, split: Split) -> Frames:
    """The first event of each kind, named after its sender and direction."""
    frames: Frames = {}
    for connection in relay.connections:
        for side, data in (("client", connection.sent), ("server", connection.received)):
            for frame in split(bytes(data)):
                if frame.event:
                    frames.setdefault(f"{side}-event.{'request' if frame.request else 'reply'}", frame.raw)
    return frames


def record_dubbo(module: str, serialization: str = "") -> Frames:
    """Calls, heartbeats and the readonly event of a Dubbo version."""
    [port] = provider_ports(1)
    options = f"?serialization={serialization}" if serialization else ""
    provided = [str(port), "blue", "1.0.1", *([serialization] if serialization else [])]
    with Peer(module, "dubbo.Provider", *provided) as provider, Relay(port) as relay:
        provider.expect("READY")
        with Peer(
            module, "dubbo.Consumer", f"dubbo://{LOOPBACK}:{relay.port}{options}", "blue", "1.0.1", "steps"
        ) as consumer:
            names = steps_of(consumer.finish())
        frames = _calls(relay, dubbo, names)
        return frames | _dubbo_events(module, port, provider, f"{options or '?'}&heartbeat=500")


def _dubbo_events(module: str, port: int, provider: Peer, options: str) -> Frames:
    with Relay(port) as relay, ExitStack() as stack:
        url = f"dubbo://{LOOPBACK}:{relay.port}{options}"
        consumer = stack.enter_context(Peer(module, "dubbo.Consumer", url, "blue", "1.0.1", "wait"))
        consumer.expect("READY")
        relay.wait(lambda: {"client-event.request", "server-event.reply"} <= set(_events(relay, dubbo)))
        frames = _events(relay, dubbo)
        before = len(relay.connections[0].received)
        provider.finish()
        closing = [frame for frame in dubbo(bytes(relay.connections[0].received[before:])) if frame.event and frame.request]
        assert closing, "the provider sent nothing when it closed"
        return {
            "heartbeat.request": frames["client-event.request"],
            "heartbeat.reply": frames["server-event.reply"],
            "readonly.request": closing[-1].raw,
        }


def record_sofa() -> Frames:
    """Calls of SOFARPC over Bolt."""
    [port] = provider_ports(1)
    with Peer("sofa", "sofa.Provider", str(port)) as provider, Relay(port) as relay:
        provider.expect("READY")
        with Peer("sofa", "sofa.Consumer", f"bolt://127.0.0.1:{relay.port}", "steps") as consumer:
            names = steps_of(consumer.finish())
        return _calls(relay, bolt, names)


def record_bolt(protocol: str) -> Frames:
    """Calls and heartbeats of plain SOFABolt. `protocol`: in the syntax of its addresses."""
    [port] = provider_ports(1)
    options = ("-Dbolt.tcp.heartbeat.interval=500",)
    with Peer("sofa", "sofa.BoltServer", str(port)) as server, Relay(port) as relay:
        server.expect("READY")
        with Peer("sofa", "sofa.BoltClient", f"127.0.0.1:{relay.port}", protocol, options=options) as client:
            client.expect("READY")
            relay.wait(lambda: {"client-event.request", "server-event.reply"} <= set(_events(relay, bolt)))
            names = steps_of(client.finish())
        frames = _calls(relay, bolt, names)
        events = _events(relay, bolt)
    frames["heartbeat.request"] = events["client-event.request"]
    frames["heartbeat.reply"] = events["server-event.reply"]
    return frames


#: All recordings, by their folder under tests/fixtures.
RECORDINGS: dict[str, Callable[[], Frames]] = {
    "dubbo-2.7": lambda: record_dubbo("dubbo2"),
    "dubbo-3": lambda: record_dubbo("dubbo3"),
    "dubbo-3-fastjson2": lambda: record_dubbo("dubbo3", "fastjson2"),
    "sofarpc": record_sofa,
    "bolt-v1": lambda: record_bolt("_PROTOCOL=1"),
    # In the first version of v2 the checksum switch is on, but there is no checksum.
    "bolt-v2.1": lambda: record_bolt("_PROTOCOL=2&_VERSION=1"),
    "bolt-v2.2": lambda: record_bolt("_PROTOCOL=2&_VERSION=2"),
}


def keep(folder: str, frames: Frames) -> None:
    """Writes the frames to one file each, replacing previous ones."""
    path = FIXTURES / folder
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob("*.bin"):
        old.unlink()
    for name, raw in frames.items():
        (path / f"{name}.bin").write_bytes(raw)


def kept(folder: str) -> Frames:
    """The frames in the repository."""
    return {path.stem: path.read_bytes() for path in sorted((FIXTURES / folder).glob("*.bin"))}
