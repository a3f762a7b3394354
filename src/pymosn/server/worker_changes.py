"""How a worker that serves changes its configuration, in the steps that the supervisor demands of all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from pymosn.assembly.packed_config import PackedConfig
from pymosn.assembly.prepared import BuildError, PreparedConfig
from pymosn.assembly.steps import Steps, run_in_slices
from pymosn.assembly.worker import Draft, WorkerRuntime
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.core.errors import describe
from pymosn.core.foreign import raise_if_cancelled
from pymosn.core.redaction import redacted_text
from pymosn.network.listener import Listener
from pymosn.server import messages
from pymosn.server.background import BackgroundTasks
from pymosn.server.channel import Channel
from pymosn.server.listener_end import DRAIN_PERIOD, close_listeners
from pymosn.server.messages import Command
from pymosn.server.resources import GarbageCollection
from pymosn.server.worker_parts import WorkerParts
from pymosn.server.worker_sockets import WorkerSockets

#: Seconds for which a worker builds a change before it serves its connections again.
BUILD_SLICE: Final = 0.003

T = TypeVar("T")


class WorkerChanges:
    """Executes the commands that check, build, activate or abandon a configuration, and small changes of the active one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: WorkerRuntime,
        channel: Channel[Any],
        tasks: BackgroundTasks,
        parts: WorkerParts,
        sockets: WorkerSockets,
        folders: tuple[str, str],
        start_listeners: Callable[[list[Listener]], Coroutine[Any, Any, None]],
    ) -> None:
        """`folders`: the directories that relative paths of filters and of logs start from.

        `start_listeners`: starts those for which sockets were received.
        """
        #: Why a change would need too much memory; empty if it does not.
        self.shortage: Callable[[str], str] = lambda when: ""
        self._loop = loop
        self._runtime = runtime
        self._channel = channel
        self._tasks = tasks
        self._parts = parts
        self._sockets = sockets
        self._folders = folders
        self._start_listeners = start_listeners
        self._checked: tuple[int, Draft] | None = None
        self._prepared: tuple[int, PreparedConfig] | None = None
        # Held while the clusters and routes are built or replaced, which takes many iterations of the event loop.
        self._changing = asyncio.Lock()
        # The last change that was abandoned, perhaps while it was still being built.
        self._abandoned = 0
        self._garbage = GarbageCollection(loop.call_later, runtime.size)

    def execute(self, command: Command) -> None:
        """Begins to execute one of these commands; others have no effect."""
        runtime = self._runtime
        match command:
            case messages.Check():
                self._begin_check(command)
            case messages.Prepare():
                self._tasks.begin(self._prepare(command))
            case messages.Activate():
                self._parts.activate(command.change)
                if self._prepared is not None and self._prepared[0] == command.change:
                    self._tasks.begin(self._activate(*self._prepared))
                self._prepared = None
            case messages.Abandon():
                self._abandoned = command.change
                if self._prepared is not None:
                    self._tasks.begin(self._discard(self._prepared[1]))
                if self._checked is not None:
                    self._tasks.begin(self._discard(self._checked[1].made))
                self._prepared = self._checked = None
                self._sockets.close()
            case messages.Retire():
                self._tasks.begin(self._retire(command.timeout))
            case messages.SetHosts():
                parts = self._parts.set_hosts(command.name, command.cluster)
                self._tasks.begin(self._change(runtime.set_hosts(command.name, command.cluster, parts)))
            case messages.HostHealth():
                runtime.set_health(command.cluster, command.hosts)
            case messages.SetEjections():
                runtime.restore_ejections(command.ejections)

    async def _change(self, steps: Steps[T]) -> T:
        """Takes steps that read or change the active clusters and routes, which nothing else changes meanwhile."""
        async with self._changing:
            return await run_in_slices(steps, BUILD_SLICE)

    async def _discard(self, made: PreparedConfig) -> None:
        await made.stop_filters()
        await self._change(self._runtime.discard(made))

    def _begin_check(self, command: messages.Check) -> None:
        try:
            packed = self._parts.check(command.change, command.difference)
        except msgspec.MsgspecError as error:
            self._channel.send(messages.Checked(command.change, faults_of(self._loop, error)))
            return
        self._tasks.begin(self._check(command.change, packed))

    async def _check(self, change: int, packed: PackedConfig) -> None:
        """Checks a configuration without effect, and reports the faults; requests are served meanwhile."""
        faults: list[Diagnostic] = []
        try:
            draft = await self._change(self._runtime.check(packed, *self._folders))
        except BaseException as error:
            raise_if_cancelled()
            faults = faults_of(self._loop, error)
        else:
            if change <= self._abandoned:
                await self._discard(draft.made)
            else:
                self._checked = (change, draft)
        self._channel.send(messages.Checked(change, faults))

    async def _prepare(self, command: messages.Prepare) -> None:
        """Builds the checked configuration without effect, and reports the faults."""
        checked, self._checked = self._checked, None
        faults: list[Diagnostic] = []
        marks = {}
        prepared: PreparedConfig | None = None
        try:
            if checked is None or checked[0] != command.change:
                raise BuildError([error_at("", "the configuration was not checked")])
            prepared = await self._change(self._runtime.build(checked[1]))
            marks = prepared.marks
            await prepared.start_filters()
            shortage = self.shortage("with this configuration and the active one")
            if shortage:
                await prepared.stop_filters()
                raise BuildError([error_at("", shortage)])
        except BaseException as error:
            raise_if_cancelled()
            faults = faults_of(self._loop, error)
            if prepared is not None:
                await self._change(self._runtime.discard(prepared))
        else:
            if command.change <= self._abandoned:
                await self._discard(prepared)
            else:
                self._prepared = (command.change, prepared)
        self._channel.send(messages.Prepared(command.change, faults, marks))

    async def _activate(self, change: int, prepared: PreparedConfig) -> None:
        async with self._changing:
            self._runtime.clock.tick()
            listeners = self._runtime.activate(prepared)
            await self._start_listeners(listeners)
            self._channel.send(messages.Activated(change, len(self._runtime.active.drain_order)))
            await run_in_slices(self._runtime.clean_up(), BUILD_SLICE)
            await run_in_slices(self._parts.tidy(), BUILD_SLICE)
        self._garbage.after_change()

    async def _retire(self, timeout: float) -> None:
        """Drains removed listeners, then stops replaced filters and discards the clusters that only they used."""
        retired = self._runtime.retired
        listeners = list(retired.listeners)
        deadline = self._loop.time() + timeout
        if listeners:
            await close_listeners(listeners, deadline)
        retired.listeners = [listener for listener in retired.listeners if listener not in listeners]
        while retired.uses_filters and self._loop.time() < deadline:
            await asyncio.sleep(DRAIN_PERIOD)
        await retired.stop_filters()
        await self._change(self._runtime.tidy())


def faults_of(loop: asyncio.AbstractEventLoop, error: BaseException) -> list[Diagnostic]:
    """The faults that prevent a change. Whatever a new configuration breaks must not affect the active one."""
    if isinstance(error, BuildError):
        return error.faults
    loop.call_exception_handler({"message": "a change cannot be built", "exception": error})
    return [error_at("", redacted_text(f"cannot be built: {describe(error)}"))]
