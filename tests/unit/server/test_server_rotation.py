"""Rotation: what is activated, what is kept, and what is logged when the files of TLS contexts change."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Lines
from tests.kit import certificates as made

from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.schema import FilterChain, Listener, MosnConfig, Server, TlsContext
from pymosn.control.plane import ChangeResult
from pymosn.server.file_watch import CertificateWatch
from pymosn.server.rotation import DELAYS, Active, Rotation
from pymosn.server.tls_files import TlsFiles, TlsRead

PATIENCE = 20.0


def config_with(*, interval: float = 0.0, watch: bool = True) -> MosnConfig:
    chain = FilterChain(tls_context=TlsContext(status=True, cert_chain="c.pem", private_key="c.key"))
    listeners = [Listener(name="a", filter_chains=[chain])]
    server = Server(listeners=listeners, watch_certificates=watch, watch_certificates_interval=interval)
    return MosnConfig(servers=[server])


class Timer(asyncio.TimerHandle):
    """Fires when a test calls `fire`."""

    def __init__(self, delay: float, call: Callable[..., object], *args: object) -> None:
        self.delay = delay
        self.fire = lambda: call(*args)
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Stage(Active):
    """The files, and an active configuration that accepts what they have, unless `accepts` is false."""

    def __init__(self, folder: Path, config: MosnConfig | None = None) -> None:
        self.folder = folder
        self.config = config or config_with()
        self.write(made.server())
        self.files = TlsFiles(self.config, str(folder))
        self.material = self.files.read_now(self.config)[0]
        self.accepts = True
        self.log = Lines()
        self.changes: list[str] = []
        self.timers: list[Timer] = []
        self.tasks: list[asyncio.Task[object]] = []
        self.rotation = Rotation(self.files, self, self._begin, self.log, self._call_later)

    def write(self, issued: made.Issued, key: made.Issued | None = None) -> None:
        (self.folder / "c.pem").write_bytes(issued.certificate)
        path = self.folder / "c.key"
        path.write_bytes((key or issued).key)
        path.chmod(0o600)

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def _call_later(self, delay: float, call: Callable[..., object], *args: object) -> Timer:
        self.timers.append(Timer(delay, call, *args))
        return self.timers[-1]

    async def reload_tls(self, source: str, read: TlsRead) -> ChangeResult:
        assert read.config is self.config
        self.changes.append(source)
        if self.accepts:
            self.material = read.material
        return ChangeResult(attempt=1, source=source, applied=self.accepts, version=1, message="rejected", faults=[])

    async def edit(self) -> None:
        self.rotation.on_edit("edit of c.pem")
        await asyncio.gather(*self.tasks)

    async def retry(self) -> float:
        """Fires the last timer; returns its delay."""
        timer = self.timers[-1]
        assert not timer.is_cancelled
        timer.fire()
        await asyncio.gather(*self.tasks)
        return timer.delay

    @property
    def certificate(self) -> bytes:
        return self.material.contents["c.pem"]


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


def test_a_new_pair_is_activated(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        stage.write(made.wrong_name())
        await stage.edit()
        assert stage.changes == ["edit of c.pem"]
        assert stage.certificate == made.wrong_name().certificate
        assert (stage.log.lines, stage.timers) == ([], [])

    run(scenario())


def test_the_same_content_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        stage.write(made.server())
        await stage.edit()
        assert (stage.changes, stage.log.lines) == ([], [])

    run(scenario())


@pytest.mark.parametrize("half", ["key", "empty", "missing"])
def test_a_half_written_pair_keeps_the_old_one_and_is_tried_again(tmp_path: Path, half: str) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        before = stage.certificate
        stage.write(made.wrong_name(), made.server())
        if half == "empty":
            (tmp_path / "c.key").write_bytes(b"")
        elif half == "missing":
            (tmp_path / "c.key").unlink()
        await stage.edit()
        assert stage.certificate == before
        assert len(stage.log.lines) == 1
        assert "what was active before stays" in stage.log.lines[0]
        assert "private_key" in stage.log.lines[0]
        assert await stage.retry() == DELAYS[0]
        assert len(stage.log.lines) == 1, "the same fault is logged once"
        stage.write(made.wrong_name())
        assert await stage.retry() == DELAYS[1]
        assert stage.certificate == made.wrong_name().certificate
        assert len(stage.log.lines) == 1

    run(scenario())


def test_a_wrong_pair_is_given_up_after_some_attempts_until_the_next_edit(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        stage.write(made.wrong_name(), made.server())
        await stage.edit()
        assert [await stage.retry() for _ in DELAYS] == list(DELAYS)
        assert len(stage.timers) == len(DELAYS)
        await stage.edit()
        assert stage.timers[-1].delay == DELAYS[0]
        assert len(stage.log.lines) == 1
        stage.write(made.server())
        await stage.edit()
        assert stage.changes == [], "what is active is in the files again"
        assert "again as they are active" in stage.log.lines[-1]

    run(scenario())


def test_a_rejected_change_is_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        stage.accepts = False
        stage.write(made.wrong_name())
        await stage.edit()
        stage.accepts = True
        await stage.retry()
        assert stage.certificate == made.wrong_name().certificate
        assert len(stage.changes) == 2

    run(scenario())


def test_an_edit_replaces_the_timer_and_stop_ends_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        stage.write(made.wrong_name(), made.server())
        await stage.edit()
        await stage.edit()
        assert [timer.is_cancelled for timer in stage.timers] == [True, False]
        await stage.rotation.stop()
        assert stage.timers[-1].is_cancelled

    run(scenario())


# ---- the watch


def rename(folder: Path, issued: made.Issued) -> None:
    for name, content in (("c.pem", issued.certificate), ("c.key", issued.key)):
        (folder / f"{name}.new").write_bytes(content)
        os.replace(folder / f"{name}.new", folder / name)


def in_place(folder: Path, issued: made.Issued) -> None:
    (folder / "c.pem").write_bytes(issued.certificate)
    (folder / "c.key").write_bytes(issued.key)


def swap(folder: Path, issued: made.Issued) -> None:
    """As the kubelet does it: a new folder, and then the link `..data` at once."""
    new = folder / f"..{len(os.listdir(folder))}"
    new.mkdir()
    (new / "c.pem").write_bytes(issued.certificate)
    (new / "c.key").write_bytes(issued.key)
    (folder / "..tmp").symlink_to(new.name)
    os.replace(folder / "..tmp", folder / "..data")


@pytest.mark.parametrize("interval", [0.0, 0.05])
@pytest.mark.parametrize("change", [rename, in_place, swap])
def test_the_watch_notices_every_way_to_replace_files(
    tmp_path: Path, change: Callable[[Path, made.Issued], None], interval: float
) -> None:
    async def scenario() -> None:
        if change is swap:
            swap(tmp_path, made.server())
            for name in ("c.pem", "c.key"):
                (tmp_path / name).symlink_to(f"..data/{name}")
        stage = Stage(tmp_path, config_with(interval=interval))
        edits: asyncio.Queue[str] = asyncio.Queue()
        watch = CertificateWatch(stage.files, lambda: stage.material, edits.put_nowait, stage.log)
        watch.follow(stage.config)
        for issued in (made.wrong_name(), made.server(), made.spiffe()):
            change(tmp_path, issued)
            async with asyncio.timeout(PATIENCE):
                while stage.files.read_now(stage.config)[0].contents["c.key"] != stage.material.contents["c.key"]:
                    text = await edits.get()
                    stage.material = stage.files.read_now(stage.config)[0]
            assert text.startswith("edit of c.")
        await watch.stop()

    run(scenario())


def test_what_changed_before_the_watch_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(tmp_path)
        stage.write(made.wrong_name())
        edits: asyncio.Queue[str] = asyncio.Queue()
        watch = CertificateWatch(stage.files, lambda: stage.material, edits.put_nowait, stage.log)
        watch.follow(stage.config)
        async with asyncio.timeout(PATIENCE):
            assert await edits.get() == "edit of c.key, c.pem"
        await watch.stop()

    run(scenario())


def test_watching_can_be_disabled(tmp_path: Path) -> None:
    files = TlsFiles(config_with(), str(tmp_path))
    watch = CertificateWatch(files, TlsMaterial, lambda text: None, Lines())
    assert watch.wanted(config_with()).paths == {f"{tmp_path}/c.pem", f"{tmp_path}/c.key"}
    assert not watch.wanted(config_with(watch=False)).paths
    assert watch.wanted(config_with(interval=2.0)).interval == 2.0
