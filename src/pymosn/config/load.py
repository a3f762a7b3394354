"""Loads and checks a configuration from a file or a text; reports all errors at once."""

import os
from collections.abc import Collection
from functools import partial
from typing import TypeVar

import msgspec

from pymosn.config.admin_files import admin_socket
from pymosn.config.check import check
from pymosn.config.check.addresses import host_fault, is_port_only
from pymosn.config.check.admin import check_admin_files
from pymosn.config.diagnostics import Diagnostic, Diagnostics, Place
from pymosn.config.json_nodes import parse_json
from pymosn.config.nodes import Node, ParseError, Repeated, plain
from pymosn.config.read import Reader
from pymosn.config.schema import Cluster, MosnConfig, Server, VirtualHost
from pymosn.config.yaml_nodes import parse_yaml
from pymosn.core.files import MAX_FILE, is_descriptor, read_regular
from pymosn.filters.settings import Block

B = TypeVar("B", bound=Block)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of loading.

    `config` is None if one of the faults is an error. `config_dir`: the directory of the file. `base_dir`: its parent, where
    MOSN keeps `logs/`. `admin_socket`: the path of the admin API's unix socket, also if the file has errors.
    """

    config: MosnConfig | None
    faults: list[Diagnostic]
    base_dir: str
    config_dir: str
    admin_socket: str
    #: The location of each value by its path, for errors that are found later.
    places: dict[str, Place]

    @property
    def errors(self) -> list[Diagnostic]:
        return [fault for fault in self.faults if fault.severity == "error"]

    @property
    def warnings(self) -> list[Diagnostic]:
        return [fault for fault in self.faults if fault.severity == "warning"]


def load_file(path: str, *, strict: bool = False, stream_filters: Collection[str] = (), pipe: bool = False) -> Loaded:
    """Load and check a configuration file: YAML for .yaml and .yml, JSON for any other name.

    `strict` makes errors of unknown keys, and of mistakes that MOSN starts with. `stream_filters`: names of filters of
    installed packages (entry-point group `pymosn.stream_filters`). `pipe`: `path` may be an anonymous pipe, such as
    `/dev/stdin`; otherwise only a regular file is read. Never raises; errors are in the result.
    """
    loading = _Loading(strict, stream_filters, folder_of(path))
    text = loading.read_text(path, pipe)
    return loading.run(text, path, path.lower().endswith((".yaml", ".yml")))


def folder_of(path: str) -> str:
    """The directory of a configuration file."""
    return os.getcwd() if is_descriptor(path) else os.path.dirname(os.path.abspath(path))


def load_text(
    text: str,
    file_name: str,
    yaml: bool = False,
    *,
    strict: bool = False,
    stream_filters: Collection[str] = (),
    config_dir: str = ".",
) -> Loaded:
    """Load and check a configuration text; `file_name` is used in errors. Never raises."""
    return _Loading(strict, stream_filters, os.path.abspath(config_dir)).run(text, file_name, yaml)


def check_again(
    config: MosnConfig,
    places: dict[str, Place],
    file_name: str,
    *,
    stream_filters: Collection[str] = (),
    config_dir: str = ".",
) -> Loaded:
    """Checks a configuration that another process has loaded from `file_name` and perhaps changed.

    Its values have these locations. `config_dir`: the directory of the file. Never raises.
    """
    loading = _Loading(False, stream_filters, os.path.abspath(config_dir))
    loading.check(config, places)
    return loading.result(config, file_name)


class _Loading:
    def __init__(self, strict: bool, stream_filters: Collection[str], config_dir: str) -> None:
        self._strict = strict
        self._stream_filters = stream_filters
        self._config_dir = config_dir
        self._faults = Diagnostics(strict)
        # The duplicate keys of the file that was parsed last.
        self._repeated: list[Repeated] = []
        # Bytes that all files together may still have.
        self._left = MAX_FILE

    def run(self, text: str | None, file: str, yaml: bool) -> Loaded:
        node = self._parse(text, file, yaml) if text is not None else None
        config = None
        if node is not None:
            config = self._read(node, file, MosnConfig, "")
            self._read_directories(config)
            self._make_up_server(config)
            self.check(config)
        return self.result(config, file)

    def check(self, config: MosnConfig, places: dict[str, Place] | None = None) -> None:
        """Checks a configuration; if it was not read here, its values have these locations."""
        self._faults.places.update(places or {})
        check(config, self._faults, self._stream_filters)
        if config.admin is not None:
            check_admin_files(config.admin, self._config_dir, self._faults)
        if self._faults.oddities:
            _leave_out_hosts(config)

    def result(self, config: MosnConfig | None, file: str) -> Loaded:
        """The configuration, unless it has errors, and all faults."""
        return Loaded(
            config=None if self._faults.has_errors else config,
            faults=self._faults.in_order(),
            base_dir=os.path.dirname(self._config_dir),
            config_dir=self._config_dir,
            admin_socket=admin_socket(None if config is None else config.admin, file, self._config_dir),
            places=self._faults.places,
        )

    def read_text(self, path: str, pipe: bool = False) -> str | None:
        """The text of a file; None, with an error, if it cannot be read or is not UTF-8."""
        try:
            data = read_regular(path, self._left, pipe)
            self._left -= len(data)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._faults.error("", f"cannot be read: {reason}", at=Place(path))
            return None
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - data.rfind(b"\n", 0, error.start)
            self._faults.error("", "not UTF-8 text", at=Place(path, line, column))
            return None

    def _parse(self, text: str, file: str, yaml: bool) -> Node | None:
        text = text.removeprefix("\ufeff")
        try:
            node, repeated = parse_yaml(text) if yaml else parse_json(text)
        except ParseError as error:
            self._faults.error("", error.message, at=Place(file, error.line, error.column))
            return None
        self._faults.quote_from(partial(plain, node))
        self._repeated = repeated
        return node

    def _read(self, node: Node, file: str, cls: type[B], path: str) -> B:
        """The block of a parsed file; keys that it has twice are reported."""
        reader = Reader(file, self._faults, self._strict)
        block = reader.block(node, cls, path)
        for key in self._repeated:
            if (key.line, key.column) not in reader.resolved:
                message = f'duplicate key "{key.key}"; first defined on line {key.first_line}'
                self._faults.error("", message, at=Place(file, key.line, key.column))
        return block

    def _read_directories(self, config: MosnConfig) -> None:
        """Read `clusters_configs` and `router_configs` into the inline lists."""
        self._read_directory(config.cluster_manager, "cluster_manager", "clusters_configs", "clusters", Cluster)
        for s, server in enumerate(config.servers):
            for path, table in server.all_tables(f"servers[{s}]"):
                self._read_directory(table, path, "router_configs", "virtual_hosts", VirtualHost)

    def _make_up_server(self, config: MosnConfig) -> None:
        """In dynamic mode the server is made up, and what else the file has is ignored, both as in MOSN."""
        if config.servers or not config.uses_xds():
            return
        config.servers.append(Server(default_log_path="stdout", default_log_level="INFO"))
        manager = config.cluster_manager
        if manager.clusters:
            message = "ignored, as in MOSN: without servers, all clusters are from xDS and static_resources"
            self._faults.warning("cluster_manager.clusters", message)
            manager.clusters = []

    def _read_directory(self, holder: Block, path: str, dir_key: str, key: str, cls: type[Block]) -> None:
        """Appends one block of each `*.json` file of a directory to the list `key` of `holder`.

        The name is relative to the current directory, as in MOSN, or else to that of the configuration file.
        """
        name, blocks = getattr(holder, dir_key), getattr(holder, key)
        setattr(holder, dir_key, "")
        if not name:
            return
        if blocks:
            self._faults.error(f"{path}.{dir_key}", f'"{key}" and "{dir_key}" are mutually exclusive', name)
            return
        directory = name if os.path.isdir(name) else os.path.join(self._config_dir, name)
        try:
            names = sorted(file for file in os.listdir(directory) if file.endswith(".json"))
        except (OSError, ValueError):
            self._faults.error(f"{path}.{dir_key}", "not a readable directory", name)
            return
        for file in (os.path.join(directory, file) for file in names):
            text = self.read_text(file)
            # MOSN skips empty files.
            node = self._parse(text, file, yaml=False) if text and text.strip() else None
            if node is not None:
                blocks.append(self._read(node, file, cls, f"{path}.{key}[{len(blocks)}]"))


def _leave_out_hosts(config: MosnConfig) -> None:
    """Removes the hosts to which MOSN never gets a connection; a warning names them, or their cluster's timeout.

    An address that is only a port is one of this machine.
    """
    for cluster in config.cluster_manager.clusters:
        if cluster.connect_timeout < 0:
            # Not of a kind that finds its hosts itself.
            cluster.type, cluster.lb_type, cluster.hosts = "SIMPLE", "LB_ROUNDROBIN", []
            cluster.connect_timeout = Cluster().connect_timeout
        for host in cluster.hosts:
            if is_port_only(host.address):
                host.address = f"127.0.0.1{host.address}"
        cluster.hosts = [host for host in cluster.hosts if host_fault(host.address) is None]
