"""Builds the extensions of the process from the configuration: objects in Python that the supervisor runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from pymosn.api.extension import Extension
from pymosn.assembly.filters import filter_files, modules_of
from pymosn.config.diagnostics import Diagnostic, error_at
from pymosn.config.dump import filter_id
from pymosn.config.schema import MosnConfig
from pymosn.config.schema.extensions import PYTHON, Extend, PythonExtension
from pymosn.config.typed import typed
from pymosn.core.errors import reason
from pymosn.core.redaction import KnownSecrets
from pymosn.filters.errors import FilterConfigError, FilterLoadError, problems_of
from pymosn.filters.loading import load_extension, load_installed_extension
from pymosn.filters.modules import ModuleDraft
from pymosn.filters.secret_fields import Paths, redacted_settings, secret_fields


class Entry(NamedTuple):
    """An extension in Python in a configuration. `path`: of its entry in `extends`, which is `block`."""

    path: str
    block: Extend
    settings: PythonExtension

    def file(self, config_dir: str) -> Path | None:
        """Its file; None for one of an installed package."""
        return None if self.settings.name else Path(config_dir, self.settings.path)

    def key(self, config_dir: str, modules: ModuleDraft) -> bytes:
        """Identifies its settings and its code: an object with the same key need not be replaced."""
        file = self.file(config_dir)
        version = b"" if file is None else modules.key(file)
        return msgspec.json.encode(self.settings) + version


def python_extensions(config: MosnConfig) -> list[Entry]:
    """The extensions in Python of a checked configuration."""
    return [
        Entry(f"extends[{i}]", extend, typed(extend.config, PythonExtension))
        for i, extend in enumerate(config.extends)
        if extend.type == PYTHON
    ]


def extension_files(config: MosnConfig, config_dir: str) -> dict[str, str]:
    """The files of extensions, by the path of the key in the configuration."""
    files = ((entry, entry.file(config_dir)) for entry in python_extensions(config))
    return {f"{entry.path}.config.path": str(file) for entry, file in files if file is not None}


def code_files(config: MosnConfig, config_dir: str) -> dict[str, str]:
    """The files of filters and extensions, by the path of the key in the configuration."""
    return {**filter_files(config.servers[0].listeners, config_dir), **extension_files(config, config_dir)}


def make_extension(entry: Entry, config_dir: str, modules: ModuleDraft) -> Extension | list[Diagnostic]:
    """Runs the module of an extension and creates the object, or returns the errors, without secrets."""
    settings, file = entry.settings, entry.file(config_dir)
    try:
        if file is None:
            return load_installed_extension(settings.name, dict(settings.config))
        return load_extension(file, settings.class_, dict(settings.config), modules)
    except FilterConfigError as error:
        return [error_at(f"{entry.path}.config.config{inner}", text) for inner, text in problems_of(error)]
    except FilterLoadError as error:
        return [error_at(entry.path, reason(error))]


def secrets_of(entry: Entry, made: Extension) -> KnownSecrets:
    """The values that the class of an extension marks as secret: errors and log lines must not show them."""
    secrets = KnownSecrets()
    redacted_settings(entry.settings.config, _secret_fields(made), secrets.add)
    return secrets


def marks_of(entry: Entry, made: Extension) -> dict[str, Paths]:
    """These fields for dumps of the configuration, see `config.dump.Marks`."""
    return {filter_id(entry.block): frozenset(("config", *path) for path in _secret_fields(made))}


def _secret_fields(made: Extension) -> Paths:
    return secret_fields(getattr(type(made), "Config", None))


def check_extensions(config: MosnConfig, config_dir: str) -> list[Diagnostic]:
    """Creates the extensions of a checked configuration, without starting them; returns the errors."""
    modules = modules_of(extension_files(config, config_dir).values())
    made = [make_extension(entry, config_dir, modules) for entry in python_extensions(config)]
    modules.rollback()
    return [fault for faults in made if not isinstance(faults, Extension) for fault in faults]
