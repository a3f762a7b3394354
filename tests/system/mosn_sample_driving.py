"""Clients of MOSN's samples: what each step of a row of `tests/golden/mosn/samples.yaml` sends, and what came of it.

A step has one of these keys, and its client's settings:

    http, h2    "GET /path": status, body and fields; `body`: bytes of content, `tls`: own, other or none, `fields`
    seen, times with another key: repeats it until so many different outcomes were seen, or so often; all of them, sorted
    bolt, dubbo a call with this content, `service`: the status, the content, and who answered
    heartbeat   whether a bolt heartbeat is acknowledged
    grpc        a method of `grpc_peers`
    lines, datagrams, unix   a line, and the answer
    copies      names of peers and how many requests are due: how many came since the row began
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import Any

import grpc
from grpc_peers import Client
from h2_peers import H2Client
from mosn_sample_parts import Places
from mosn_sample_peers import Peers
from plain_sockets import PATIENCE
from pymosn_process import eventually
from tests.kit import bolt_frames as bolt
from tests.kit import certificates as made
from tests.kit import dubbo_frames as dubbo

Step = dict[str, Any]

#: Response fields that are part of an outcome.
_FIELDS = ("content-type", "x-peer")
#: What no answer is called.
NOTHING = "no response"


class Driver:
    """Runs the steps of rows."""

    def __init__(self, places: Places, peers: Peers, tokens: dict[str, str]) -> None:
        """`tokens`: what `@NAME` in a field stands for."""
        self._places = places
        self._peers = peers
        self._tokens = tokens

    def run(self, target: str, steps: list[Step]) -> list[Any]:
        """The outcomes of all steps. `target`: the listener, where a step has no `to`."""
        before = {name: self._peers.counting.of(name) for name in self._peers.addresses}
        found = []
        for step in steps:
            if "copies" in step:
                found.append(self._counted(step, before))
            else:
                found.append(self._run(step, step.get("to", target)))
        return found

    def _run(self, step: Step, target: str) -> Any:
        if "seen" in step or "times" in step:
            return self._several(step, target)
        for key, client in (
            ("http", self._http),
            ("h2", self._h2),
            ("bolt", self._bolt),
            ("heartbeat", self._heartbeat),
            ("dubbo", self._dubbo),
            ("grpc", self._grpc),
            ("lines", self._lines),
            ("datagrams", self._datagrams),
        ):
            if key in step:
                try:
                    return client(step, target)
                except (OSError, EOFError, http.client.HTTPException):
                    return NOTHING
        raise AssertionError(f"no client for {step}")

    def _several(self, step: Step, target: str) -> list[Any]:
        """The different outcomes of a step that is repeated: so often, or until there are enough of them."""
        once = {key: value for key, value in step.items() if key not in ("seen", "times")}
        found: list[Any] = []
        left = step.get("times", 1 << 30)
        deadline = time.monotonic() + PATIENCE
        while left > 0 and len(found) < step.get("seen", 1 << 30) and time.monotonic() < deadline:
            left -= 1
            outcome = self._run(once, target)
            short = list(outcome.values())[:3] if isinstance(outcome, dict) else [outcome]
            if short not in found:
                found.append(short)
        return sorted(found)

    def _counted(self, step: Step, before: dict[str, int]) -> Any:
        due = step["copies"]

        def counts() -> dict[str, int]:
            return {name: self._peers.counting.of(name) - before[name] for name in due}

        eventually(lambda: all(count >= due[name] for name, count in counts().items()), 10)
        return counts()

    def _context(self, step: Step) -> ssl.SSLContext | None:
        if "tls" not in step:
            return None
        context = ssl.create_default_context(cafile=str(self._places.folder / "ca.pem"))
        if step["tls"] == "own":
            context.load_cert_chain(self._places.folder / "server.pem", self._places.folder / "server.key")
        elif step["tls"] == "other":
            made.other_client().load_into(context)
        return context

    def _http(self, step: Step, target: str) -> Any:
        method, path = step["http"].split()
        address = "127.0.0.1", self._places.port(target)
        context = self._context(step)
        connection = (
            http.client.HTTPConnection(*address, timeout=PATIENCE)
            if context is None
            else http.client.HTTPSConnection(*address, timeout=PATIENCE, context=context)
        )
        fields = {"Host": "a.example"} | step.get("fields", {})
        for name, value in fields.items():
            for token, text in self._tokens.items():
                fields[name] = value = value.replace(f"@{token}", text)
        try:
            connection.request(method, path, b"x" * step["body"] if "body" in step else None, fields)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        chosen = {name: response.headers[name] for name in _FIELDS if name in response.headers}
        return {"status": response.status, "body": body.decode("latin-1"), **chosen}

    def _h2(self, step: Step, target: str) -> Any:
        method, path = step["h2"].split()
        content = b"x" * step["body"] if "body" in step else None
        fields = [("content-length", str(len(content)))] if content is not None else []
        with H2Client(self._places.port(target)) as client:
            message = client.request(method, path, fields, body=content)
        if not message.status:
            return NOTHING
        chosen = {name: message.value(name) for name in _FIELDS if message.value(name)}
        return {"status": message.status, "body": message.body.decode("latin-1"), **chosen}

    def _socket(self, step: Step, target: str) -> socket.socket:
        address = self._places.at(target)
        if address.startswith("/"):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(address)
            return sock
        sock = socket.create_connection(("127.0.0.1", self._places.port(target)), PATIENCE)
        context = self._context(step)
        return sock if context is None else context.wrap_socket(sock, server_hostname="127.0.0.1")

    def _bolt(self, step: Step, target: str) -> Any:
        service = step.get("service", "testSofa")
        frame = bolt.request(7, step["bolt"].encode(), {"service": service} if service else {}, timeout=60_000)
        with self._socket(step, target) as sock:
            sock.sendall(frame)
            reply = _reply(sock)
        found = {"status": reply.status, "content": reply.content.decode(), "via": reply.headers.get("via")}
        return found if reply.request_id == 7 else f"the id {reply.request_id}"

    def _heartbeat(self, step: Step, target: str) -> Any:
        with self._socket(step, target) as sock:
            sock.sendall(bolt.heartbeat(9))
            reply = _reply(sock)
        return {"command": reply.command, "id": reply.request_id, "status": reply.status}

    def _dubbo(self, step: Step, target: str) -> Any:
        with self._socket(step, target) as sock, sock.makefile("rb") as stream:
            sock.sendall(dubbo.call(5, step.get("service", "a.Service"), step["dubbo"], arguments=("text",)))
            head = stream.read(16)
            if len(head) < 16:
                return NOTHING
            body = stream.read(int.from_bytes(head[12:16], "big"))
        first, last = body.find(b"<"), body.find(b">")
        via = body[first + 1 : last].decode("latin-1") if first >= 0 else None
        return {"status": head[3], "id": int.from_bytes(head[4:12], "big"), "via": via}

    def _grpc(self, step: Step, target: str) -> Any:
        with Client(self._places.port(target)) as client:
            call = client.unary(step["grpc"])
            try:
                reply, ended = call.with_call(step["message"].encode(), timeout=PATIENCE)
            except grpc.RpcError as error:
                return {"code": error.code().name, "details": error.details()}
        return {
            "code": ended.code().name,
            "message": reply.decode(),
            "trailers": dict(ended.trailing_metadata()).get("x-end"),
        }

    def _lines(self, step: Step, target: str) -> Any:
        with self._socket(step, target) as sock, sock.makefile("rb") as lines:
            answers = []
            for line in step["lines"]:
                sock.sendall(line.encode() + b"\n")
                answers.append(lines.readline().decode().rstrip("\n") or NOTHING)
        return answers

    def _datagrams(self, step: Step, target: str) -> Any:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", self._places.port(target)))
            answers = []
            for text in step["datagrams"]:
                sock.send(text.encode())
                answers.append(sock.recv(65536).decode())
        return answers


def _reply(sock: socket.socket) -> bolt.Parsed:
    """The next frame."""
    data = b""
    while True:
        frame, _ = bolt.parse(data)
        if frame is not None:
            return frame
        more = sock.recv(65536)
        if not more:
            raise EOFError("the connection ended")
        data += more
