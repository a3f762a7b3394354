"""Rules for headers of RPC messages in the running program: a DENY, a removal and a Python filter fail closed."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, eventually, free_ports, get
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from tests.kit.rpc_wires import WIRES, Provider
from tests.unit.protocol.test_tars_codec import pair
from tests.unit.protocol.test_tars_codec import request as tars_request

FRONT = b"\x052.0.2\x01SN\x01m"
ROLE = b"\x04role\x05admin"
FILTER = """
from pymosn.api import Reply, StreamFilter

class Denies(StreamFilter):
    on_error = "skip"

    def on_route(self, exchange):
        if exchange.request.headers.get("role") == "admin":
            return Reply(403)
"""


def hessian(tail: bytes, flags: int = 0xC2) -> bytes:
    return dubbo.frame(flags, 0, FRONT + tail)


def fastjson2(attachments: bytes) -> bytes:
    values = (b"\x4e2.0.2", b"\x4aS", b"\xaf", b"\x4am", b"\x49", attachments)
    return dubbo.frame(0xD7, 0, b"".join(struct.pack(">I", len(value)) + value for value in values))


#: Calls that are `role: admin` for a Java provider, and that the proxy reads: they are denied with 403.
READ = {
    "a length that is a long": hessian(b"\x12Ljava/lang/Object;X\xe1\x91H" + ROLE + b"Z"),
    "a length that is a double": hessian(
        b"\x12Ljava/lang/Object;V\x05[listD" + struct.pack(">d", 1.9) + b"\x91H" + ROLE + b"Z"
    ),
    "an overlong name": hessian(b"\x00H\x04\xc1\xb2ole\x05adminZ"),
    "fastjson2": fastjson2(b"\xa6\x4drole\x4eadmin\xa5"),
    "fastjson": dubbo.frame(0xC6, 0, b'"2.0.2"\n"S"\nnull\n"m"\n""\n{"role":"admin"}\n'),
}
#: Calls that it cannot read, or that have two roles: refused with 400 where something looks.
REFUSED = {
    "4,100 attachments": hessian(b"\x00H" + b"".join(b"\x05%05d\x91" % n for n in range(4099)) + ROLE + b"Z"),
    "a map that is a reference": hessian(b"\x12Ljava/lang/Object;H" + ROLE + b"ZQ\x90"),
    "kryo": dubbo.frame(0xC8, 0, b"\x01" + ROLE),
    "two roles": hessian(b"\x00H\x04role\x05guest" + ROLE + b"Z"),
    "two roles in fastjson2": fastjson2(b"\xa6\x4drole\x4eguest\x4drole\x4eadmin\xa5"),
    "two roles in Bolt": bolt.request(1, headers={"service": "S", "role": "guest", "Role": "admin"}),
    "two roles in TARS": tars_request(
        tail=b"\x98\x00\x02" + pair(b"role", b"guest") + pair(b"role", b"admin") + b"\xa8\x0c"
    ),
}


class Keeping(Provider):
    """Keeps the frames that it gets."""

    def __init__(self) -> None:
        super().__init__(WIRES["dubbo"])
        self.frames: list[bytes] = []

    def _answer(self, frame: bytes) -> bytes:
        if not self.wire.is_heartbeat(frame):
            self.frames.append(frame)
        return super()._answer(frame)


class World:
    """A program with a listener for each way to have a rule."""

    NAMES = ("deny", "python", "remove", "blind")

    def __init__(self, upstream: int, folder: Path) -> None:
        *self.ports, self.admin_port = free_ports(len(self.NAMES) + 1)
        path = folder / "denies.py"
        path.write_text(FILTER)
        rules = {"policies": {"no": {"permissions": [{"any": True}], "principals": [self._principal()]}}, "action": "DENY"}
        filters: dict[str, list[dict[str, Any]]] = {
            "deny": [{"type": "rbac", "config": {"version": "1", "rules": rules}}],
            "python": [{"type": "python", "config": {"path": str(path), "class": "Denies"}}],
        }
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [
                {
                    "default_log_path": "stdout",
                    "processor": 1,
                    "routers": [self._table(name) for name in self.NAMES],
                    "listeners": [
                        self._listener(name, port, filters.get(name, []))
                        for name, port in zip(self.NAMES, self.ports, strict=True)
                    ],
                }
            ],
            "cluster_manager": {
                "clusters": [{"name": "all", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{upstream}"}]}]
            },
        }

    def _principal(self) -> dict[str, Any]:
        return {"header": {"name": "role", "exact_match": "admin"}}

    def _listener(self, name: str, port: int, filters: list[dict[str, Any]]) -> dict[str, Any]:
        config = {"downstream_protocol": "dubbo, bolt, tars", "router_config_name": name}
        chain = {"filters": [{"type": "proxy", "config": config}]}
        address = f"127.0.0.1:{port}"
        listener = {"name": name, "address": address, "bind_port": True, "filter_chains": [chain]}
        return {**listener, "stream_filters": filters}

    def _table(self, name: str) -> dict[str, Any]:
        route: dict[str, Any] = {"cluster_name": "all", "timeout": "20s"}
        if name == "remove":
            route["request_headers_to_remove"] = ["role"]
        # No condition: nothing looks at a header unless the listener's own rule does.
        routes = [{"match": {}, "route": route}]
        return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": routes}]}

    def reasons(self, listener: str) -> int:
        """How many requests of a listener were refused because they could not be judged."""
        found = json.loads(get(self.admin_port, "/api/v1/stats")[1])["downstream"][f"listener.{listener}"]
        return int(found.get("reason_unreadable_headers", 0))

    async def ask(self, listener: str, frame: bytes) -> bytes:
        """The answer to a call."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[self.NAMES.index(listener)])
        writer.write(frame)
        answer = await asyncio.wait_for(reader.read(65536), PATIENCE)
        writer.close()
        return answer


def status(answer: bytes) -> int:
    """The status of an answer as HTTP's, as far as the tests need it."""
    if answer[:2] == b"\xda\xbb":
        return {20: 200, 40: 400, 80: 403}[answer[3]]
    if answer[:2] == b"\x01\x00":
        return {0: 200, 2: 403, 3: 400}[int.from_bytes(answer[10:12], "big")]
    return 400 if b"400|" in answer else 200


async def _check(start: Start, folder: Path) -> None:
    async with Keeping() as provider:
        world = World(provider.port, folder)
        proxy = await asyncio.to_thread(start, world.config)
        await asyncio.to_thread(proxy.wait_for, READY)
        for name, frame in READ.items():
            for listener in ("deny", "python"):
                assert status(await world.ask(listener, frame)) == 403, (name, listener)
        for name, frame in REFUSED.items():
            for listener in ("deny", "python"):
                answer = await world.ask(listener, frame)
                assert status(answer) == 400, (name, listener, answer)
        assert provider.frames == []
        for listener in ("deny", "python"):
            assert await asyncio.to_thread(eventually, lambda name=listener: world.reasons(name) == len(REFUSED))

        for name, frame in READ.items():
            assert status(await world.ask("remove", frame)) == 200, name
            assert b"admin" not in provider.frames[-1], name
        await _removals(world, provider)

        before = len(provider.frames)
        passing = {name: frame for name, frame in REFUSED.items() if frame[:2] == b"\xda\xbb"}
        for name, frame in passing.items():
            assert status(await world.ask("blind", frame)) == 200, name
            assert provider.frames[-1][12:] == frame[12:], name
        assert len(provider.frames) == before + len(passing)


async def _removals(world: World, provider: Keeping) -> None:
    """Removing removes all values; what cannot be read cannot lose one."""
    for name in ("two roles", "two roles in fastjson2"):
        assert status(await world.ask("remove", REFUSED[name])) == 200
        assert b"role" not in provider.frames[-1]
    before = len(provider.frames)
    for name in ("4,100 attachments", "a map that is a reference", "kryo"):
        assert status(await world.ask("remove", REFUSED[name])) == 400, name
    assert len(provider.frames) == before


@pytest.mark.timeout(120)
def test_rules_for_headers_of_rpc_fail_closed(start: Start, tmp_path: Path) -> None:
    asyncio.run(_check(start, tmp_path))
