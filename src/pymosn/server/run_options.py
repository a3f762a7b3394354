"""Options of one run of the proxy, the source of its configuration, and how a start fails."""

import os
from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from pymosn.config.admin_files import admin_socket
from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.diagnostics import Diagnostic, Place, Places
from pymosn.config.load import Loaded, load_file, load_text
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.server import MOST_WORKERS, count_of
from pymosn.control.threads import within
from pymosn.control.xds.bootstrap import is_needed, read_bootstrap
from pymosn.control.xds.node import POD_LABELS, NodeError, NodeFlags, make_node
from pymosn.core.files import read_regular
from pymosn.filters.loading import FILTERS, installed
from pymosn.server.capacity import MIB, fitting, too_small
from pymosn.server.cgroups import Cpus, cpus, memory_limit
from pymosn.server.upgrade.mosn import OldMosn

#: The exit codes of all commands, besides 0.
BAD_CONFIGURATION: Final = 1
OTHER_FAULT: Final = 2
#: Those of a process that serves, which are MOSN's: it could not start, it could not take over from another, or a part of it
#: has failed while it was stopped gracefully.
NOT_STARTED: Final = 1
NOT_TAKEN_OVER: Final = 2
NOT_STOPPED_WELL: Final = 4
#: Seconds for reading and checking a configuration.
LOAD_TIME: Final = 30.0
#: Bytes of the labels of a pod.
_MAX_LABELS: Final = 1024 * 1024


class ConfigSource(msgspec.Struct, frozen=True):
    """A configuration file, or the built-in example if `path` is None. `strict`: as for `load_file`.

    `pipe`: the file may be an anonymous pipe, because it is read only once. `node`: MOSN's flags for the node of control
    planes, and what the environment says of it; None: only the configuration counts.
    """

    path: str | None
    strict: bool = False
    pipe: bool = False
    node: NodeFlags | None = None

    @property
    def name(self) -> str:
        """The name of the configuration in messages."""
        return self.path or DEFAULT_NAME

    def discard(self) -> None:
        """Removes the files that only this process has used, when another one has taken over."""

    def load(self) -> Loaded:
        """Reads and checks the configuration; an error in the result if that takes longer than LOAD_TIME."""
        try:
            return within(LOAD_TIME, self.load_here)
        except TimeoutError:
            return self.unreadable(f"cannot be read within {LOAD_TIME:g} s")

    def unreadable(self, message: str) -> Loaded:
        """The result of a load that failed because of `message`."""
        fault = Diagnostic(message=message, file=self.name)
        return Loaded(
            config=None, faults=[fault], base_dir="", config_dir="", admin_socket="", places={"": Place(self.name)}
        )

    def load_here(self) -> Loaded:
        """Like `load`, without a limit of time: a file may be on a network mount that hangs."""
        filters = installed(FILTERS)
        if self.path is not None:
            loaded = load_file(self.path, strict=self.strict, stream_filters=filters, pipe=self.pipe)
            return with_bootstrap(loaded if self.node is None else with_node(loaded, self.node))
        # Its `base_dir` is the current directory, so that `logs/` is created there and not next to it.
        return load_text(DEFAULT_CONFIG, DEFAULT_NAME, strict=self.strict, stream_filters=filters, config_dir="./conf")


def with_node(loaded: Loaded, flags: NodeFlags) -> Loaded:
    """With the node that flags and environment make of the configured one, if control planes are used."""
    config = loaded.config
    if config is None or not is_needed(config):
        return loaded
    try:
        node = make_node(config.node if isinstance(config.node, dict) else {}, flags, os.environ, _pod_labels)
    except NodeError as error:
        return structs.replace(loaded, config=None, faults=[*loaded.faults, Diagnostic(path="node", message=str(error))])
    return structs.replace(loaded, config=structs.replace(config, node=node))


def _pod_labels() -> str:
    """The labels of the pod; empty outside of Kubernetes."""
    try:
        return read_regular(POD_LABELS, _MAX_LABELS).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def with_bootstrap(loaded: Loaded) -> Loaded:
    """With the faults of the sections of xDS."""
    if loaded.config is None:
        return loaded
    name = loaded.places[""].file if "" in loaded.places else ""
    found, faults = read_bootstrap(loaded.config)
    if found is not None:
        # It imports the converters of all messages.
        from pymosn.control.xds.static import static_faults

        faults = [*faults, *static_faults(found)]
    faults = [fault.placed(loaded.places, name) for fault in faults]
    is_bad = any(fault.severity == "error" for fault in faults)
    return structs.replace(loaded, faults=[*loaded.faults, *faults], config=None if is_bad else loaded.config)


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `pymosn start`, with the configuration already loaded.

    `places`: positions of the configuration's values in its `source`. `config_files`: real paths of further files of it.
    `config_dir`: the directory of the source; `base_dir`: the directory that contains `logs/`. `workers`: value of
    --workers. `log_ceiling`: value of --log-level. `mosn`: a running MOSN that is replaced. `drain_time`: seconds for
    draining after SIGTERM; None: `graceful_timeout`. `writes_back`: changes are written to the file of the configuration.
    """

    source: ConfigSource
    config: MosnConfig
    config_dir: str
    base_dir: str
    places: Places = {}
    config_files: frozenset[str] = frozenset()
    workers: int | None = None
    log_ceiling: str | None = None
    mosn: OldMosn | None = None
    drain_time: float | None = None
    writes_back: bool = False

    @property
    def is_demo(self) -> bool:
        """Whether to run the built-in example, with its demo upstream."""
        return self.source.path is None

    @property
    def admin_socket(self) -> str:
        """The path of the admin API's unix socket."""
        return admin_socket(self.config.admin, self.source.name, self.config_dir)


class StartError(Exception):
    """The process cannot start. `faults`: errors in the configuration, `lines`: all other reasons; `code`: its exit code."""

    def __init__(
        self, *, faults: list[Diagnostic] | None = None, lines: list[str] | None = None, code: int = NOT_STARTED
    ) -> None:
        super().__init__("cannot start")
        self.code = code
        self.faults = faults or []
        self.lines = lines or []


class WorkerPlan(NamedTuple):
    """`number`: of workers to start, and `decided_by` what. `fewer`: why they are fewer than requested; empty if not."""

    number: int
    decided_by: str
    fewer: str = ""


def worker_count(option: int | None, gomaxprocs: str | None, processor: int | float | str, cpus: Cpus) -> WorkerPlan:
    """Workers to run: the command line's `option`, or else GOMAXPROCS, or else the key `processor`, or else `cpus`.

    As in MOSN a value below 1 or not a number counts as not given.
    """
    given = (("--workers", option), ("GOMAXPROCS", gomaxprocs), ("the key `processor`", processor))
    for name, value in given:
        if count_of(value):
            return WorkerPlan(count_of(value), name)
    return WorkerPlan(cpus.number, cpus.limit)


def plan_workers(option: int | None, config: MosnConfig) -> WorkerPlan:
    """The number of workers to start.

    `option`: as for `worker_count`. Fewer are started if they would not fit into the memory of the container, unless the
    configuration itself gives each a limit. StartError if not even one would fit, or if far too many are requested.
    """
    server = config.servers[0]
    wanted, decided_by, _ = worker_count(option, os.environ.get("GOMAXPROCS"), server.processor, cpus())
    if wanted > MOST_WORKERS:  # of --workers or GOMAXPROCS: the key is checked with the configuration
        raise StartError(lines=[f"{wanted} workers are requested, {MOST_WORKERS} are allowed"])
    limit = memory_limit() if server.overload.memory_limit == 0 else 0
    shortage = too_small(limit)
    if shortage:
        raise StartError(lines=[shortage])
    count, fewer = fitting(wanted, limit)
    return WorkerPlan(count, f"the memory limit, {limit // MIB} MiB" if fewer else decided_by, fewer)
