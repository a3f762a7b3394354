"""Resources in a file, `path_config_source`: a DiscoveryResponse in JSON, YAML or, with the suffix `.pb`, protobuf.

The file is read again when it is replaced or edited. It is compared once a second in a thread, which also works on network
mounts that do not report changes; it should be replaced by a rename, or an edit could be read half-written. A file that
cannot be read changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml
from google.protobuf import any_pb2, json_format

from pymosn.control.threads import off_loop
from pymosn.control.xds.client import CONNECTED, WAITING, ClientStatus, accept
from pymosn.control.xds.convert.messages import UnknownTypeError, load_types
from pymosn.control.xds.exchanges import Entry, Response, TypeStatus
from pymosn.control.xds.sotw import SotwSubscription
from pymosn.control.xds.types import SHORT, Consumer, Rejected
from pymosn.control.xds.wire import InvalidMessage, decode, entry_of
from pymosn.core.errors import describe, reason
from pymosn.core.files import read_regular
from pymosn.core.log import ERROR, INFO, WARN, Log

#: Seconds between looking for a change, and for reading.
INTERVAL: Final = 1.0
READ_TIME: Final = 10.0
MAX_BYTES: Final = 256 * 1024 * 1024

#: What identifies the content of a file: inode, size, time of change.
_Stamp = tuple[int, int, int]


class FileSource:
    """The resources of one type from one file, for a consumer, with the same rules as those of a control plane."""

    def __init__(
        self,
        path: str,
        type_url: str,
        consumer: Consumer,
        log: Log,
        *,
        interval: float = INTERVAL,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.error = ""
        self._consumer = consumer
        self._log = log
        self._interval = interval
        self._now = now
        self._machine = SotwSubscription(type_url, lambda: 0.0)
        self._machine.opened()
        self._stamp: _Stamp | None = None
        self._wanted_again = asyncio.Event()
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    def want(self, names: Mapping[str, float]) -> None:
        """Replaces the subscription; see `Subscription.want`."""
        self._machine.want(names, self._now())
        self._stamp = None
        self._wanted_again.set()

    def start(self) -> None:
        """Begins; needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Ends watching. What was accepted stays with the consumer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> TypeStatus:
        """The state for the admin API. Each content of the file counts as a response."""
        return self._machine.status(self._now())

    async def _watch(self) -> None:
        while True:
            self._wanted_again.clear()
            try:
                await self._look()
            except Exception as error:  # a fault of ours must not end watching
                self._note(f"internal error: {describe(error)}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wanted_again.wait()

    async def _look(self) -> None:
        machine = self._machine
        if not machine.wanted:
            return
        try:
            stamp = await off_loop(READ_TIME, _stamp_of, self.path)
            if stamp != self._stamp:
                data = await off_loop(READ_TIME, read_regular, self.path, MAX_BYTES)
                self._stamp = stamp
                self._count += 1
                machine.receive(parse(self.path, data, machine.type_url, str(self._count)), self._now())
        except (OSError, TimeoutError) as error:
            self._note(getattr(error, "strerror", None) or reason(error))
        except InvalidMessage as error:
            self._note(str(error))
        # The answers and requests of a file have no receiver; they only drive the machine.
        machine.next_request(self._now())
        while (update := machine.take(self._now())) is not None:
            rejected = await accept(self._consumer, update, self._log, self.path)
            nacks = machine.nacks
            machine.decided(rejected, self._now())
            machine.next_request(self._now())
            if machine.nacks > nacks:
                self._note(f"rejected: {machine.nack_reason}", ERROR)
            elif update.resources:
                self.error = ""
                self._log.write(INFO, f"xDS {self.path}: {len(update.resources)} resources accepted")

    def _note(self, error: str, level: int = WARN) -> None:
        if error != self.error:
            self.error = error
            name = SHORT.get(self._machine.type_url, self._machine.type_url)
            self._log.write(level, f"xDS {self.path} ({name}): {error}; what was accepted before stays active")


class FileClient:
    """A file in the form of a client of a control plane. `name`: for logs and views."""

    def __init__(self, path: str, type_url: str, consumer: Consumer, log: Log) -> None:
        self.name = f"{SHORT.get(type_url, type_url)} from {path}"
        self._source = FileSource(path, type_url, consumer, log)

    def want(self, type_url: str, names: Mapping[str, float]) -> None:
        """Replaces the subscription, which is of the type of the file."""
        self._source.want(names)

    def reject_late(self, type_url: str, faults: Rejected) -> None:
        """Resources cannot be activated. A file has no receiver for that; `unusable` of the view shows it."""

    def start(self) -> None:
        """Begins; needs a running event loop."""
        self._source.start()

    async def stop(self) -> None:
        """Ends watching."""
        await self._source.stop()

    def status(self) -> ClientStatus:
        """The state for the admin API: connected once the file has been read."""
        source = self._source
        kind = source.status()
        state = CONNECTED if kind.responses else WAITING
        return ClientStatus(self.name, state, source.path, False, None, source.error, None, 0, 0, 0, (kind,))


def _stamp_of(path: str) -> _Stamp:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def parse(path: str, data: bytes, type_url: str, version: str) -> Response:
    """The content of a file as a response. `version`: if the file has none. InvalidMessage."""
    if path.endswith(".pb"):
        response = decode(data, False, type_url)
        if response.type_url != type_url:
            raise InvalidMessage(f"a response of type {response.type_url!r}, expected {type_url!r}")
        return response._replace(version=response.version or version, nonce=version)
    try:
        document = json.loads(data) if path.endswith(".json") else yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidMessage(f"invalid JSON or YAML: {reason(error)}") from None
    resources = document.get("resources", []) if isinstance(document, dict) else None
    if not isinstance(resources, list):
        raise InvalidMessage("expected an object with a list `resources`, a DiscoveryResponse")
    text = document.get("version_info") or document.get("versionInfo") or version
    entries = [_entry(item, type_url, str(text)) for item in resources]
    return Response(type_url, str(text), version, entries, size=len(data))


def _entry(item: Any, type_url: str, version: str) -> Entry:
    """One resource; what is wrong with it is its own fault."""
    if not isinstance(item, dict):
        return Entry("", version, None, fault=f"expected an object, got {type(item).__name__}")
    name = str(item.get("name") or item.get("cluster_name") or item.get("clusterName") or "")
    try:
        load_types(item)
        packed = json_format.ParseDict(item, any_pb2.Any())
    except (json_format.ParseError, UnknownTypeError, RecursionError, TypeError, ValueError, AttributeError) as error:
        # json_format raises the last three for some values of a wrong kind.
        return Entry(name, version, None, fault=reason(error))
    return entry_of(packed, type_url, version)
