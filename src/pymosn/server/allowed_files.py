"""Which files changes through the admin API, and items of control planes, may name; see `config/check/paths.py`."""

from __future__ import annotations

import os
from collections.abc import Collection

from pymosn.config.check.paths import LOG, TLS_FOLDERS, Folders, Reserved, check_paths, named_paths
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.exchanged import Watched, exchanged
from pymosn.config.schema import Cluster, ClusterManager, MosnConfig, Server


class AllowedFiles:
    """Knows the files with a role: those of the configuration, those that are read, and all logs so far."""

    def __init__(self, config_dir: str, base_dir: str, config_files: Collection[str], log: str) -> None:
        """`config_files`: real paths of the configuration's files and the pid file. `log`: the process's own log."""
        self._folders = Folders(config_dir, base_dir)
        #: Real paths of the files that the configuration was read from, and of the pid file.
        self.config_files = frozenset(config_files)
        self._logs = frozenset({os.path.realpath(log)})
        self._read: frozenset[str] = frozenset()
        # The active configuration's clusters, as far as they name files, and all else in it that does.
        self._clusters: Watched[Cluster] = Watched(self._names_files)
        self._others: tuple[object, ...] = ()

    def add_config_files(self, paths: Collection[str]) -> None:
        """Adds real paths of files that the configuration was read from."""
        self.config_files |= frozenset(paths)

    def note_active(self, config: MosnConfig) -> None:
        """Notes the files that the configuration of all sources names, which is active now. It costs what was exchanged."""
        others = *config.servers[0].listeners, config.cluster_manager.tls_context
        is_same = not self._clusters.has_changed(config.cluster_manager.clusters) and exchanged(self._others, others) == []
        self._others = others
        if is_same:
            return
        paths = list(named_paths(config, self._folders))
        self._logs |= {path.real for path in paths if path.role == LOG}
        self._read = frozenset(path.real for path in paths if path.role != LOG)

    def _names_files(self, cluster: Cluster) -> bool:
        config = MosnConfig(servers=[Server()], cluster_manager=ClusterManager(clusters=[cluster]))
        return any(True for _ in named_paths(config, self._folders))

    def change_errors(self, own: MosnConfig, config: MosnConfig) -> list[Diagnostic]:
        """The errors of files that a change of `own` through the admin API names."""
        return check_paths(own, config, self._listed(own), Reserved(self.config_files, self._logs))

    def item_errors(self, own: MosnConfig, item: MosnConfig) -> list[Diagnostic]:
        """The errors of files that one item of a control plane names. `item`: a configuration with nothing else.

        Called in threads: all sets are immutable.
        """
        folders = self._listed(own)._replace(of_tls=TLS_FOLDERS)
        paths = list(named_paths(item, folders))
        if not paths:
            return []
        # A file that is read already may be read for this item, too, but must not become its log.
        read = self._read if any(path.role == LOG for path in paths) else frozenset()
        return check_paths(own, item, folders, Reserved(self.config_files | read, self._logs))

    def _listed(self, own: MosnConfig) -> Folders:
        return self._folders._replace(listed=() if own.admin is None else own.admin.allowed_folders)
