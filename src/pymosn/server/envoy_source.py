"""A bootstrap file of Envoy as the source of the configuration."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import Any

from msgspec import structs

from pymosn.config.diagnostics import Diagnostic, Place
from pymosn.config.json_nodes import parse_json
from pymosn.config.load import Loaded, load_text
from pymosn.config.nodes import ParseError, plain
from pymosn.config.yaml_nodes import parse_yaml
from pymosn.control.envoy.bootstrap_file import Flags, converted, merged
from pymosn.core.errors import reason
from pymosn.core.files import MAX_FILE, read_regular
from pymosn.filters.loading import FILTERS, installed
from pymosn.server.run_options import ConfigSource, with_bootstrap

#: The name of a bootstrap that is only in `--config-yaml`.
OVERLAY = "--config-yaml"


class EnvoySource(ConfigSource, frozen=True, kw_only=True):
    """`path`: a bootstrap file, or OVERLAY without one. `overlay`: YAML or JSON that is merged over it.

    `folder`: for files of this process, the admin socket, the pid and the cache; see `own_folder`.
    """

    overlay: str = ""
    flags: Flags = Flags()
    folder: str = ""

    def discard(self) -> None:
        discard_folder(self.folder)

    def load_here(self) -> Loaded:
        assert self.path is not None
        parts: list[Any] = []
        try:
            if self.path != OVERLAY:
                text = read_regular(self.path, MAX_FILE, pipe=True).decode()
                parts.append(_parsed(text, self.path.lower().endswith((".yaml", ".yml"))))
            if self.overlay:
                parts.append(_parsed(self.overlay, True))
        except ParseError as error:
            file = OVERLAY if parts or self.path == OVERLAY else self.path
            return self._failed([Diagnostic(message=error.message, file=file, line=error.line, column=error.column)])
        except (OSError, ValueError) as error:
            return self._failed([Diagnostic(message=f"cannot be read: {reason(error) or error}", file=self.path)])
        config, faults = converted(parts[0] if len(parts) == 1 else merged(*parts), self.flags)
        faults = [structs.replace(fault, file=self.path) for fault in faults]
        if any(fault.severity == "error" for fault in faults):
            return self._failed(faults)
        loaded = self._load(config)
        # Positions in the converted text would be misleading.
        found = [structs.replace(fault, file=self.path, line=0, column=0) for fault in loaded.faults]
        return structs.replace(loaded, faults=[*faults, *found], base_dir=self.folder, places={"": Place(self.path)})

    def _load(self, config: dict[str, Any]) -> Loaded:
        assert self.path is not None
        name = os.path.splitext(os.path.basename(self.path.lstrip("-")))[0]
        name += f".{self.flags.base_id}" if self.flags.base_id else ""
        config["admin"].setdefault("socket", os.path.join(self.folder, f"{name}.admin.sock"))
        config["pid"] = os.path.join(self.folder, f"{name}.pid")
        config["xds_cache"] = os.path.join(self.folder, f"{name}.xds_cache")
        text, filters = json.dumps(config), installed(FILTERS)
        folder = os.getcwd() if self.path == OVERLAY else os.path.dirname(os.path.abspath(self.path))
        return with_bootstrap(load_text(text, self.path, strict=self.strict, stream_filters=filters, config_dir=folder))

    def _failed(self, faults: list[Diagnostic]) -> Loaded:
        return structs.replace(self.unreadable(""), faults=faults)


def _parsed(text: str, yaml: bool) -> Any:
    node, repeated = parse_yaml(text) if yaml else parse_json(text)
    for key in repeated:
        raise ParseError(f'duplicate key "{key.key}"; first defined on line {key.first_line}', key.line, key.column)
    return plain(node)


_TEMPORARY = "pymosn-envoy-"


def own_folder(path: str | None) -> str:
    """The folder for files of the process: that of its bootstrap, or a new temporary one if that is read-only."""
    folder = os.getcwd() if path is None else os.path.dirname(os.path.abspath(path))
    return folder if os.access(folder, os.W_OK) else tempfile.mkdtemp(prefix=_TEMPORARY)


def discard_folder(folder: str) -> None:
    """Removes a temporary folder that `own_folder` has made."""
    if os.path.basename(folder).startswith(_TEMPORARY) and os.path.dirname(folder) == tempfile.gettempdir():
        shutil.rmtree(folder, ignore_errors=True)
