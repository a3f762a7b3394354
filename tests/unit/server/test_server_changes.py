import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.kit import Lines
from tests.kit import certificates as made

from pymosn.assembly.packed_change import decode_change
from pymosn.assembly.packed_config import PackedConfig, decode
from pymosn.assembly.tls_material import TlsMaterial, resolve
from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.load import load_text
from pymosn.config.schema import Cluster, FilterChain, Host, Listener, MosnConfig, StreamFilter, TlsContext
from pymosn.control.discovery import Discovery
from pymosn.control.plane import Candidate, ChangeResult
from pymosn.control.resolver import Answer, LookupOptions, lookup_options
from pymosn.control.xds.layer import Layer, Owner
from pymosn.core.clock import Clock
from pymosn.core.log import Log
from pymosn.filters.sources import read_sources
from pymosn.server.changes import Changes
from pymosn.server.filter_files import FilterFiles
from pymosn.server.fleet import Fleet
from pymosn.server.layer_faults import LayerResult
from pymosn.server.listeners import ListenerSockets
from pymosn.server.messages import (
    Abandon,
    Activate,
    Activated,
    Check,
    Checked,
    Command,
    Configure,
    Part,
    Prepare,
    Prepared,
    Ready,
    Retire,
    SetHosts,
    Sockets,
)
from pymosn.server.run_options import ConfigSource, RunOptions, StartError
from pymosn.server.tls_files import TlsFiles, TlsRead
from pymosn.server.worker_process import WorkerHandle, WorkerReceiver

FAULT = Diagnostic(severity="error", file="", line=0, column=0, path="p", message="does not build")


class FakeWorker(WorkerHandle):
    """Answers at once with `answer`."""

    def __init__(self, worker_id: int, pid: int, receiver: WorkerReceiver, answer: Callable[[Command], object]) -> None:
        super().__init__(worker_id, pid)
        self.commands: list[Command] = []
        self._receiver = receiver
        self._answer = answer

    def send(self, command: Command, descriptors: Sequence[int] = ()) -> None:
        self.commands.append(command)
        answer = self._answer(command)
        if isinstance(answer, (Checked, Prepared, Activated)):
            self._receiver.on_report(self, answer)
        elif answer == "die":
            self._receiver.on_exit(self, 1)

    def take_stack(self) -> list[str]:
        return ["filters.py:7 in on_request"]

    def kill(self) -> None:
        self._receiver.on_exit(self, -9)

    def said(self, kind: type[Command]) -> int:
        return sum(isinstance(command, kind) for command in self.commands)


def willing(command: Command) -> object:
    if isinstance(command, Check):
        return Checked(command.change, [])
    if isinstance(command, Prepare):
        return Prepared(command.change, [])
    return Activated(command.change, 1) if isinstance(command, Activate) else None


def unwilling(command: Command) -> object:
    return Prepared(command.change, [FAULT]) if isinstance(command, Prepare) else willing(command)


def dying(command: Command) -> object:
    return "die" if isinstance(command, Prepare) else willing(command)


def lost(command: Command) -> object:
    """Hung, for example, and killed while it was asked."""
    return "die" if isinstance(command, Check) else willing(command)


def finding_faults(command: Command) -> object:
    return Checked(command.change, [FAULT]) if isinstance(command, Check) else willing(command)


class NoScheduler:
    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> None:
        raise AssertionError("nobody dies twice")


def in_force(*addresses: str) -> MosnConfig:
    loaded = load_text(DEFAULT_CONFIG, DEFAULT_NAME)
    assert loaded.config is not None
    listeners = [Listener(name=f"l{place}", address=address, bind_port=True) for place, address in enumerate(addresses)]
    return replace(loaded.config, servers=[replace(loaded.config.servers[0], listeners=listeners)])


class Stage:
    def __init__(
        self, *answers: Callable[[Command], object], config: MosnConfig | None = None, config_dir: str = "/conf"
    ) -> None:
        self.workers: list[FakeWorker] = []
        self._answers = list(answers)
        self.listeners = ListenerSockets()
        self.fleet = Fleet(len(answers), self._spawn, self._initial_commands, NoScheduler().call_later, Clock(), Log())
        options = RunOptions(source=ConfigSource("f.json"), config=config or in_force(), config_dir=config_dir, base_dir="/")
        discovery = Discovery(lambda cluster: None, Log())
        self.followed: list[MosnConfig] = []
        self.log = Lines()
        self.tls_files = TlsFiles(options.config, config_dir)
        files = FilterFiles("."), self.tls_files
        self.changes = Changes(options, self.fleet, self.listeners, *files, discovery, self._follow, self.log)
        self.fleet.start()
        for worker in list(self.workers):
            self.fleet.on_report(worker, Ready(1))

    def _follow(self, config: MosnConfig, only_hosts: bool = False) -> None:
        self.followed.append(config)

    def _spawn(self, worker_id: int, receiver: WorkerReceiver) -> WorkerHandle:
        answer = self._answers[worker_id - 1] if len(self.workers) < len(self._answers) else willing
        self.workers.append(FakeWorker(worker_id, 100 + len(self.workers), receiver, answer))
        return self.workers[-1]

    def _initial_commands(self, worker_id: int) -> list[tuple[Command, Sequence[int]]]:
        configure = [(command, ()) for command in self.changes.configure(worker_id)]
        return [*self.listeners.handover(worker_id), *configure]

    async def apply(self, config: MosnConfig | None, *faults: Diagnostic) -> ChangeResult:
        return await self.changes.apply("test", lambda before: Candidate(config, list(faults)))

    async def trusted(self, config: MosnConfig) -> ChangeResult:
        """A change by the operator, who may name any file."""
        return await self.changes.apply("test", lambda before: Candidate(config, [], is_trusted=True))


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


def test_a_change_that_all_workers_can_build_is_activated_by_all() -> None:
    async def scenario() -> None:
        stage = Stage(willing, willing)
        wanted = in_force("127.0.0.1:0")
        outcome = await stage.apply(wanted)
        assert (outcome.applied, outcome.version, outcome.attempt, outcome.faults) == (True, 2, 1, [])
        for worker in stage.workers:
            kinds = [type(command) for command in worker.commands if not isinstance(command, Part)]
            assert kinds == [Configure, Check, Sockets, Prepare, Activate, Retire]
        assert stage.changes.config is wanted
        assert stage.followed == [wanted]
        assert list(stage.listeners.addresses()) == ["l0"]
        stage.listeners.close()

    run(scenario())


@pytest.mark.parametrize("answers", [(willing, unwilling), (unwilling, willing), (dying, willing), (dying, dying)])
def test_when_one_cannot_build_it_nothing_changes(answers: Sequence[Callable[[Command], object]]) -> None:
    async def scenario() -> None:
        stage = Stage(*answers)
        before = stage.changes.config
        outcome = await stage.apply(in_force("127.0.0.1:0"))
        assert not outcome.applied
        assert outcome.version == 1
        assert len(outcome.faults) == 1
        assert all(worker.said(Abandon) == 1 for worker in stage.workers[:2] if not worker.has_exited)
        assert not any(worker.said(Activate) for worker in stage.workers)
        assert stage.changes.config is before
        assert stage.listeners.addresses() == {}
        assert len(stage.fleet.pids) == 2

    run(scenario())


def test_new_code_that_kills_its_process_kills_one_worker() -> None:
    async def scenario() -> None:
        stage = Stage(dying, dying, dying)
        assert not (await stage.apply(in_force("127.0.0.1:0"))).applied
        assert [worker.has_exited for worker in stage.workers] == [True, False, False, False]

    run(scenario())


@pytest.mark.parametrize(
    ("answers", "applied"),
    [
        ((willing, dying), True),
        ((lost, willing), True),
        ((willing, lost), True),
        ((lost, lost), False),
        ((willing, dying, dying), True),
    ],
)
def test_the_death_of_another_worker_prevents_no_change(
    answers: Sequence[Callable[[Command], object]], applied: bool
) -> None:
    async def scenario() -> None:
        stage = Stage(*answers)
        outcome = await stage.apply(in_force("127.0.0.1:0"))
        assert (outcome.applied, bool(outcome.faults)) == (applied, not applied)
        assert len(stage.fleet.pids) == len(answers)
        for worker in stage.workers[len(answers) :]:
            *_, command = (command for command in worker.commands if isinstance(command, Configure))
            assert len(decode(command.config, {}).rest.servers[0].listeners) == int(applied), "what its replacement gets"
        stage.listeners.close()

    run(scenario())


def test_code_of_filters_runs_in_no_worker_if_one_finds_faults(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(willing, finding_faults)
        wanted = in_force(str(tmp_path / "s.sock"))
        listener = replace(wanted.servers[0].listeners[0], network="unix")
        wanted = replace(wanted, servers=[replace(wanted.servers[0], listeners=[listener])])
        outcome = await stage.changes.apply("test", lambda before: Candidate(wanted, [], is_trusted=True))
        assert [fault.message for fault in outcome.faults] == [FAULT.message]
        for worker in stage.workers:
            kinds = [type(command) for command in worker.commands if not isinstance(command, Part)]
            assert kinds == [Configure, Check, Abandon]
        assert list(tmp_path.iterdir()) == []

    run(scenario())


def test_files_named_by_others_than_the_operator_are_limited(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        wanted = in_force(str(tmp_path / "s.sock"))
        listener = replace(wanted.servers[0].listeners[0], network="unix")
        wanted = replace(wanted, servers=[replace(wanted.servers[0], listeners=[listener])])
        outcome = await stage.apply(wanted)
        assert [fault.path for fault in outcome.faults] == ["servers[0].listeners[0].address"]
        assert "is outside the folders" in outcome.faults[0].message
        kinds = [type(command) for command in stage.workers[0].commands if not isinstance(command, Part)]
        assert kinds == [Configure]

    run(scenario())


def test_a_worker_that_dies_meanwhile_is_replaced_with_the_active_configuration() -> None:
    async def scenario() -> None:
        stage = Stage(dying, willing)
        await stage.apply(in_force("127.0.0.1:0"))
        *parts, command = stage.workers[2].commands
        assert all(isinstance(part, Part) for part in parts)
        assert isinstance(command, Configure)
        assert decode(command.config, {}).rest.servers[0].listeners == []
        assert (stage.workers[2].worker_id, command.worker_index) == (1, 0)

    run(scenario())


def test_faults_of_the_file_go_no_further() -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        outcome = await stage.apply(None, FAULT)
        assert (outcome.applied, outcome.faults) == (False, [FAULT])
        assert stage.workers[0].said(Configure) == 1
        assert stage.workers[0].said(Prepare) == 0
        assert stage.changes.last is outcome

    run(scenario())


def test_a_taken_address_is_a_fault(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outcome = await stage.apply(in_force(f"127.0.0.1:{port}"))
        assert "in use by another process" in outcome.faults[0].message
        assert stage.workers[0].said(Prepare) == 0
        server.close()

    run(scenario())


def test_addresses_that_a_name_has_now_are_sent_as_the_parts_that_workers_lack() -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        answers = [[f"10.0.{number // 250}.{1 + number % 250}" for number in range(count)] for count in (2000, 2001)]

        async def look_up(name: str, options: LookupOptions) -> Answer:
            return Answer(answers[0])

        discovery = stage.changes._discovery
        discovery._lookup = look_up
        wanted = in_force()
        cluster = Cluster(name="named", type="STRICT_DNS", hosts=[Host(address="hosts.example:80")])
        other = Cluster(name="other", hosts=[Host(address="10.9.9.9:80")])
        manager = replace(wanted.cluster_manager, clusters=[cluster, other])
        assert (await stage.apply(replace(wanted, cluster_manager=manager))).applied
        worker = stage.workers[0]
        known = {command.digest for command in worker.commands if isinstance(command, Part)}
        worker.commands.clear()
        answers[0] = answers[1]
        await discovery._look_up(("named", "hosts.example"), lookup_options(cluster), False)
        await stage.changes.push_hosts()
        *parts, last = worker.commands
        assert [type(command) for command in worker.commands] == [Part, SetHosts], "one part has one host more"
        assert isinstance(parts[0], Part)
        assert isinstance(last, SetHosts)
        assert last.name == "named"
        assert {last.cluster.head, *last.cluster.hosts} - known == {parts[0].digest}
        await stage.changes.push_hosts()
        assert worker.commands[-1] is last, "nothing has changed since"
        (*_, configure) = stage.changes.configure(1)
        assert isinstance(configure, Configure)
        assert decode(configure.config, {}).clusters["named"] == last.cluster, "what a new worker gets"
        discovery.close()

    run(scenario())


# ---- the source of filters


def filtered(*files: Path) -> MosnConfig:
    """A configuration whose listener has a filter in each of the files."""
    config = in_force("127.0.0.1:0")
    entries = [StreamFilter(type="python", config={"path": str(file), "class": "F"}) for file in files]
    listener = replace(config.servers[0].listeners[0], stream_filters=entries)
    return replace(config, servers=[replace(config.servers[0], listeners=[listener])])


def active(stage: Stage) -> dict[str, str]:
    """The source that a new worker gets, by name: of one folder."""
    (files,) = decode_active(stage).source_files().values()
    return {name: content.decode() for name, content in files.items()}


def decode_active(stage: Stage) -> PackedConfig:
    *parts, last = stage.changes.configure(1)
    assert isinstance(last, Configure)
    return decode(last.config, {part.digest: part.content for part in parts if isinstance(part, Part)})


def active_contents(stage: Stage) -> set[str]:
    files = decode_active(stage).source_files()
    return {content.decode() for found in files.values() for content in found.values()}


def sent(worker: FakeWorker) -> list[bytes]:
    """The parts that a worker got since the last call."""
    found = [command.content for command in worker.commands if isinstance(command, Part)]
    worker.commands.clear()
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / folder / name for folder in ("a", "b") for name in ("one.py", "two.py")]
    for file in made:
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{file.parent.name} {file.stem} 1")
    return made


def test_only_reloads_read_the_files_of_active_filters(files: list[Path]) -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        assert (await stage.trusted(filtered(files[0]))).applied
        before = {"one.py": "a one 1", "two.py": "a two 1"}
        assert active(stage) == before
        worker = stage.workers[0]
        assert {b"a one 1", b"a two 1"} <= set(sent(worker))
        files[1].write_text("a two 2")
        assert (await stage.trusted(replace(filtered(files[0]), pid="/run/x.pid"))).applied
        assert b"a two 2" not in sent(worker)
        assert active(stage) == before
        await stage.changes.push_hosts()
        assert active(stage) == before
        assert (await stage.changes.reload_filters("test")).applied
        assert sent(worker) == [b"a two 2"], "one file has changed"
        assert active(stage) == {"one.py": "a one 1", "two.py": "a two 2"}
        stage.listeners.close()

    run(scenario())


def test_another_change_reads_only_folders_that_lack_a_file(files: list[Path]) -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        assert (await stage.trusted(filtered(files[0]))).applied
        files[0].unlink()
        files[1].write_text("a two 2")
        assert (await stage.trusted(filtered(files[0], files[2]))).applied
        assert active_contents(stage) == {"a one 1", "a two 1", "b one 1", "b two 1"}
        assert read_sources([files[2]]).digests.items() <= stage.changes.last_read.digests.items()
        outcome = await stage.trusted(filtered(files[0], files[0].with_name("three.py")))
        assert not outcome.applied, "this folder must be read, and has lost a file"
        assert any("one.py cannot be read" in fault.message for fault in outcome.faults)
        assert (await stage.trusted(filtered(files[2]))).applied
        assert active(stage) == {"one.py": "b one 1", "two.py": "b two 1"}
        assert set(stage.changes.last_read.folders) == {str(files[2].parent)}
        stage.listeners.close()

    run(scenario())


@pytest.mark.parametrize("other", [unwilling, finding_faults])
def test_a_rejected_reload_leaves_the_source_and_is_noted_as_read(
    files: list[Path], other: Callable[[Command], object]
) -> None:
    async def scenario() -> None:
        answers = [willing]
        stage = Stage(lambda command: answers[0](command))
        assert (await stage.trusted(filtered(files[0]))).applied
        assert stage.changes.last_read.digests == read_sources([files[0]]).digests
        before = active(stage)
        for edit in ("a one 2", None):
            files[0].unlink() if edit is None else files[0].write_text(edit)
            answers[0] = other
            assert not (await stage.changes.reload_filters("test")).applied
            assert active(stage) == before
            assert stage.changes.last_read.digests == read_sources([files[0]]).digests
            answers[0] = willing
            assert (await stage.trusted(replace(filtered(files[0]), pid="/run/x.pid"))).applied
            assert active(stage) == before
            assert stage.changes.last_read.digests == read_sources([files[0]]).digests, "a watcher has nothing to report"
        stage.listeners.close()

    run(scenario())


def test_a_file_that_cannot_be_read_is_placed_at_its_key(files: list[Path]) -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        outcome = await stage.trusted(filtered(files[0], files[0].with_name("gone.py")))
        (fault,) = outcome.faults
        assert fault.path == "servers[0].listeners[0].stream_filters[1].config.path"
        assert "gone.py cannot be read: No such file" in fault.message
        assert stage.workers[0].said(Check) == 0

    run(scenario())


def test_a_neighbour_that_cannot_be_read_is_a_warning(files: list[Path]) -> None:
    """Importing it fails as if it did not exist."""

    async def scenario() -> None:
        stage = Stage(willing)
        helper = files[0].parent / "helpers.py"
        os.mkfifo(helper)
        outcome = await stage.trusted(filtered(files[0]))
        warnings = [fault for fault in outcome.faults if str(helper) in fault.message]
        assert outcome.applied
        assert [fault.severity for fault in warnings] == ["warning"]
        assert warnings[0].path == "servers[0].listeners[0].stream_filters[0].config.path"
        stage.listeners.close()

    run(scenario())


def test_settings_that_need_a_restart_are_reported() -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        wanted = in_force()
        outcome = await stage.apply(replace(wanted, pid="/run/other.pid"))
        assert outcome.applied
        assert [(fault.severity, fault.path) for fault in outcome.faults] == [("warning", "pid")]

    run(scenario())


def test_nothing_changes_once_the_end_has_begun() -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        stage.changes.reject_all()
        assert not (await stage.apply(in_force())).applied

    run(scenario())


def test_listeners_keep_their_sockets_and_unneeded_ones_are_given_back() -> None:
    sockets = ListenerSockets()
    first = [Listener(name=name, address="127.0.0.1:0", bind_port=True) for name in ("a", "b")]
    assert sockets.bind(first, 2) == []
    kept = sockets.addresses()["a"]
    third = msgspec.structs.replace(first[0], name="c")
    assert sockets.prepare([first[0], third], 2) == []
    ((command, descriptors),) = sockets.handover_new(1)
    assert (command, len(descriptors)) == (Sockets(["c"]), 1)
    unneeded = sockets.activate()
    assert len(unneeded) == 2
    assert list(sockets.addresses()) == ["a", "c"]
    assert sockets.addresses()["a"] == kept
    for sock in unneeded:
        sock.close()
    sockets.close()


# ---- certificates and keys


def secured(folder: Path, *names: str) -> MosnConfig:
    """A configuration whose listener has a TLS context for each name, with `NAME.pem` and `NAME.key`."""
    config = in_force("127.0.0.1:0")
    contexts = [
        TlsContext(status=True, cert_chain=f"{folder}/{name}.pem", private_key=f"{folder}/{name}.key") for name in names
    ]
    listener = replace(config.servers[0].listeners[0], filter_chains=[FilterChain(tls_context_set=contexts)])
    return replace(config, servers=[replace(config.servers[0], listeners=[listener])])


def active_certificates(stage: Stage) -> list[bytes]:
    """The certificates that a new worker gets."""
    packed = decode_active(stage)
    (chain,) = packed.rest.servers[0].listeners[0].filter_chains
    return [resolve(context.cert_chain, packed.kept_parts()) for context in chain.tls_context_set]


def reports_of(outcome: ChangeResult) -> list[tuple[str, str]]:
    return [(fault.severity, fault.path.rpartition(".")[2]) for fault in outcome.faults]


async def rotated(stage: Stage) -> ChangeResult:
    """What the files have now is activated, as after an edit of them."""
    config = stage.changes.config
    material, faults = await stage.tls_files.read(config, TlsMaterial())
    return await stage.changes.reload_tls("test", TlsRead(config, material, faults))


def test_certificates_are_a_part_of_what_is_active(tmp_path: Path) -> None:
    async def scenario() -> None:
        made.server().files(tmp_path, "a")
        stage = Stage(willing)
        assert (await stage.trusted(secured(tmp_path, "a"))).applied
        assert active_certificates(stage) == [made.server().certificate]
        made.wrong_name().files(tmp_path, "a")
        made.client().files(tmp_path, "b")
        assert (await stage.trusted(secured(tmp_path, "a", "b"))).applied
        assert active_certificates(stage) == [made.server().certificate, made.client().certificate], "only b is new"
        assert (await rotated(stage)).applied
        assert active_certificates(stage) == [made.wrong_name().certificate, made.client().certificate]
        assert made.wrong_name().key in sent(stage.workers[0])
        stage.listeners.close()

    run(scenario())


def test_a_change_that_fails_leaves_the_certificates_as_they_were(tmp_path: Path) -> None:
    async def scenario() -> None:
        made.server().files(tmp_path, "a")
        stage = Stage(willing)
        assert (await stage.trusted(secured(tmp_path, "a"))).applied
        before = stage.changes.material
        (tmp_path / "a.key").write_bytes(made.client().key)
        outcome = await rotated(stage)
        assert not outcome.applied
        assert reports_of(outcome) == [("error", "private_key")]
        stage.workers[0]._answer = finding_faults
        made.wrong_name().files(tmp_path, "a")
        assert not (await rotated(stage)).applied
        assert stage.changes.material is before
        assert active_certificates(stage) == [made.server().certificate]
        stage.listeners.close()

    run(scenario())


def test_a_warning_about_a_key_is_reported_once_and_by_each_reload(tmp_path: Path) -> None:
    async def scenario() -> None:
        made.server().files(tmp_path, "a")
        (tmp_path / "a.key").chmod(0o644)
        stage = Stage(willing)
        exposed = [("warning", "private_key")]
        assert reports_of(await stage.trusted(secured(tmp_path, "a"))) == exposed
        for issued in (made.wrong_name(), made.spiffe()):
            (tmp_path / "a.pem").write_bytes(issued.certificate)
            (tmp_path / "a.key").write_bytes(issued.key)
            assert reports_of(await rotated(stage)) == []
            assert active_certificates(stage) == [issued.certificate]
        made.expired().files(tmp_path, "a")
        assert reports_of(await rotated(stage)) == [("warning", "cert_chain")], "only what is new"
        (tmp_path / "a.key").chmod(0o644)
        assert reports_of(await rotated(stage)) == exposed, "it was over for some time"
        stage.listeners.close()

    run(scenario())


def test_content_read_for_another_configuration_is_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        for name in ("a", "b"):
            made.server().files(tmp_path, name)
        stage = Stage(willing)
        assert (await stage.trusted(secured(tmp_path, "a"))).applied
        config = stage.changes.config
        material, faults = await stage.tls_files.read(config, TlsMaterial())
        made.wrong_name().files(tmp_path, "b")
        assert (await stage.trusted(secured(tmp_path, "b"))).applied
        assert (await stage.changes.reload_tls("test", TlsRead(config, material, faults))).applied
        assert active_certificates(stage) == [made.wrong_name().certificate]
        stage.listeners.close()

    run(scenario())


def test_an_unusable_certificate_prevents_the_start_and_an_expired_one_does_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        for issued, key in ((made.expired(), made.expired()), (made.server(), made.client())):
            issued.files(tmp_path, "a")
            (tmp_path / "a.key").write_bytes(key.key)
            stage = Stage(willing, config=secured(tmp_path, "a"))
            await stage.tls_files.start()
            if issued is key:
                await stage.changes.start()
                assert "has expired on" in stage.log.lines[0]
                assert active_certificates(stage) == [issued.certificate]
            else:
                with pytest.raises(StartError) as raised:
                    await stage.changes.start()
                assert [fault.path.rpartition(".")[2] for fault in raised.value.faults] == ["private_key"]

    run(scenario())


def test_what_the_admin_api_may_name_as_a_certificate_and_as_a_key_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        made.server().files(tmp_path, "a")
        stage = Stage(willing, config_dir=str(tmp_path / "conf"))
        outcome = await stage.apply(secured(tmp_path, "a"))
        assert not outcome.applied
        assert reports_of(outcome) == [("error", "cert_chain"), ("error", "private_key")]
        assert all("outside the folders" in fault.message for fault in outcome.faults)
        stage = Stage(willing, config_dir=str(tmp_path))
        assert (await stage.apply(secured(tmp_path, "a"))).applied
        wanted = secured(tmp_path, "a")
        wanted.servers[0].listeners[0].filter_chains[0].tls_context_set[0].key_log = f"{tmp_path}/a.key"
        outcome = await stage.apply(wanted)
        assert reports_of(outcome) == [("error", "key_log")]
        stage.listeners.close()

    run(scenario())


# ---- what xDS adds


def added(**clusters: str) -> Layer:
    """Clusters with one host each."""
    return Layer(clusters={name: Cluster(name=name, hosts=[Host(address=host)]) for name, host in clusters.items()})


def active_clusters(stage: Stage) -> list[str]:
    return [cluster.name for cluster in stage.changes.config.cluster_manager.clusters]


def test_a_layer_is_activated_and_kept_by_other_changes() -> None:
    async def scenario() -> None:
        stage = Stage(willing, willing)
        await stage.changes.start()
        own = active_clusters(stage)
        result = await stage.changes.apply_layer(added(x="127.0.0.1:1"))
        assert result == LayerResult(True, {}, "")
        assert active_clusters(stage) == [*own, "x"]
        assert (await stage.changes.apply("admin", lambda active: Candidate(replace(active, pid="p"), []))).applied
        assert active_clusters(stage) == [*own, "x"]
        assert stage.changes.own.pid == "p"
        assert "x" not in [cluster.name for cluster in stage.changes.own.cluster_manager.clusters]

    asyncio.run(scenario())


def test_other_hosts_alone_are_sent_without_building_anything_else() -> None:
    async def scenario() -> None:
        stage = Stage(willing, willing)
        await stage.changes.start()
        first = added(x="127.0.0.1:1", y="127.0.0.1:2")
        await stage.changes.apply_layer(first)
        before = [worker.said(Check) for worker in stage.workers]
        version = stage.changes.last.version
        changed = Cluster(name="x", hosts=[Host(address="127.0.0.1:3")])
        await stage.changes.apply_layer(first._replace(clusters={**first.clusters, "x": changed}))
        assert [worker.said(Check) for worker in stage.workers] == before
        for worker in stage.workers:
            assert [command.name for command in worker.commands if isinstance(command, SetHosts)] == ["x"]
        assert stage.changes.last.version == version
        assert stage.changes.effective.cluster_manager.clusters[-2].hosts == changed.hosts

    asyncio.run(scenario())


def test_the_same_content_is_no_change() -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        await stage.changes.start()
        await stage.changes.apply_layer(added(x="127.0.0.1:1"))
        count = len(stage.workers[0].commands)
        assert (await stage.changes.apply_layer(added(x="127.0.0.1:1"))).applied
        assert len(stage.workers[0].commands) == count

    asyncio.run(scenario())


def test_an_item_that_a_worker_rejects_keeps_its_last_good_state_and_the_rest_is_activated() -> None:
    def picky(command: Command) -> object:
        if not isinstance(command, Check):
            return willing(command)
        change = decode_change(command.difference)
        listeners = change.rest.servers[0].listeners if change.rest is not None else []
        faults = [
            Diagnostic(path=f"servers[0].listeners[{i}].stream_filters[0]", message="unusable")
            for i, listener in enumerate(listeners)
            if listener.log_path == "bad"
        ]
        return Checked(command.change, faults)

    async def scenario() -> None:
        stage = Stage(picky)
        await stage.changes.start()
        good = Listener(name="a", address="127.0.0.1:0")
        await stage.changes.apply_layer(Layer(listeners={"a": good}))
        bad = {"a": Listener(name="a", address="127.0.0.1:0", log_path="bad"), "b": Listener(name="b", log_path="bad")}
        result = await stage.changes.apply_layer(added(x="127.0.0.1:1")._replace(listeners=bad))
        assert result.applied
        assert result.rejected == {
            Owner("listener", "a"): "stream_filters[0]: unusable",
            Owner("listener", "b"): "stream_filters[0]: unusable",
        }
        assert stage.changes.config.servers[0].listeners == [good]
        assert active_clusters(stage)[-1] == "x"

    asyncio.run(scenario())


def test_an_address_that_cannot_be_bound_is_a_fault_of_its_listener() -> None:
    async def scenario() -> None:
        stage = Stage(willing)
        await stage.changes.start()
        listeners = {
            "a": Listener(name="a", address="127.0.0.1:0", bind_port=True),
            "b": Listener(name="b", address="192.0.2.1:1", bind_port=True),
        }
        result = await stage.changes.apply_layer(Layer(listeners=listeners))
        stage.listeners.close()
        assert list(result.rejected) == [Owner("listener", "b")]
        assert [listener.name for listener in stage.changes.config.servers[0].listeners] == ["a"]

    asyncio.run(scenario())


def test_two_listeners_cannot_share_an_address_and_that_of_the_file_wins() -> None:
    async def scenario() -> None:
        stage = Stage(willing, config=in_force("127.0.0.1:0"))
        stage.listeners.bind(stage.changes.config.servers[0].listeners, 1)
        await stage.changes.start()
        twins = {name: Listener(name=name, address="127.0.0.1:9", bind_port=False) for name in "ab"}
        twins = {name: replace(twin, network="udp", bind_port=True) for name, twin in twins.items()}
        result = await stage.changes.apply_layer(Layer(listeners=twins))
        stage.listeners.close()
        assert list(result.rejected) == [Owner("listener", "b")]
        assert "address of listener a" in result.rejected[Owner("listener", "b")]

    asyncio.run(scenario())


def test_a_fault_of_no_item_rejects_the_whole_layer() -> None:
    async def scenario() -> None:
        stage = Stage(finding_faults)
        await stage.changes.start()
        result = await stage.changes.apply_layer(added(x="127.0.0.1:1"))
        assert (result.applied, result.rejected) == (False, {})
        assert "does not build" in result.message
        assert "x" not in active_clusters(stage)

    asyncio.run(scenario())


def test_an_item_with_a_fault_that_names_none_is_found() -> None:
    def picky(command: Command) -> object:
        if isinstance(command, Check) and "bad" in decode_change(command.difference).clusters:
            return Checked(command.change, [FAULT])
        return willing(command)

    async def scenario() -> None:
        stage = Stage(picky)
        await stage.changes.start()
        result = await stage.changes.apply_layer(added(x="127.0.0.1:1", bad="127.0.0.1:2", y="127.0.0.1:3"))
        assert result.applied
        assert list(result.rejected) == [Owner("cluster", "bad")]
        assert "does not build" in result.rejected[Owner("cluster", "bad")]
        assert sorted(active_clusters(stage)[-2:]) == ["x", "y"]

    asyncio.run(scenario())
