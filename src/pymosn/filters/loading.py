"""Loads stream filters in Python: a class in a file next to the configuration, or one that an installed package offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pymosn.api.stream_filter import StreamFilter
from pymosn.core.errors import reason, type_name
from pymosn.core.redaction import KnownSecrets
from pymosn.filters.collectors import wrap_registry
from pymosn.filters.errors import FilterConfigError, FilterLoadError, describe, problems_of
from pymosn.filters.folder_version import attributes, calling_registrations
from pymosn.filters.modules import ModuleDraft, ModuleStore
from pymosn.filters.secret_fields import redacted_settings, secret_fields
from pymosn.filters.sources import read_sources
from pymosn.filters.typed_config import typed_config

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: Entry-point groups of installed packages.
FILTERS: Final = "pymosn.stream_filters"
PROTOCOLS: Final = "pymosn.protocols"


def entry_points_of(group: str) -> list[EntryPoint]:
    """The entry points of installed packages in a group."""
    from importlib.metadata import entry_points  # 3 MB: only for configurations that need it

    return list(entry_points(group=group))


def installed(group: str) -> list[str]:
    """The names in an entry-point group."""
    return sorted({point.name for point in entry_points_of(group)})


def load_installed(name: str, config: dict[str, object]) -> StreamFilter:
    """Creates the filter that an installed package offers as `name`. Raises FilterLoadError."""
    for point in entry_points_of(FILTERS):
        if point.name == name:
            try:
                found = point.load()
            except BaseException as error:  # a package may call `sys.exit`
                raise FilterLoadError(f"cannot load {point.value}: {describe(error)}") from error
            wrap_registry(calling_registrations)
            return _make(found, point.value, config)
    raise FilterLoadError(f"no installed package offers a stream filter {name!r}")


def load_filter(path: Path, class_name: str, config: dict[str, object], modules: ModuleDraft | None = None) -> StreamFilter:
    """Creates a filter of class `class_name` in the file `path`. Raises FilterLoadError.

    `modules`: where its module comes from; None: reads the file and its folder now, for this filter alone.
    """
    module = (modules or _draft_of(path)).load(path)
    try:
        found = getattr(module, class_name, None)
    except BaseException as error:  # of the module's `__getattr__`
        raise FilterLoadError(f"cannot load {path}:{class_name}: {describe(error)}") from error
    if found is None:
        near = ", ".join(name for name, value in attributes(module).items() if is_filter(value)) or "none"
        raise FilterLoadError(f"{path} has no class {class_name!r} (stream filters in it: {near})")
    return _make(found, f"{path}:{class_name}", config)


def _draft_of(path: Path) -> ModuleDraft:
    sources = read_sources([path])
    return ModuleStore().draft(sources.folders, sources.faults)


def is_filter(value: object) -> bool:
    """Whether a value is a class of stream filters."""
    # By its type: a lazy object at the top of a module may raise when it is asked for its `__class__`.
    return issubclass(type(value), type) and issubclass(cast("type", value), StreamFilter) and value is not StreamFilter


def _make(found: object, origin: str, config: dict[str, object]) -> StreamFilter:
    secrets = KnownSecrets()
    try:
        if not is_filter(found):
            raise FilterLoadError(f"{origin} is not a subclass of pymosn.api.StreamFilter")
        assert isinstance(found, type)
        kind = getattr(found, "Config", None)
        redacted_settings(config, secret_fields(kind), secrets.add)
        made: object = found(typed_config(kind, config))
    except FilterConfigError as error:
        raise FilterConfigError([(path, secrets.hide(text)) for path, text in problems_of(error)]) from None
    except FilterLoadError as error:
        raise FilterLoadError(secrets.hide(reason(error))) from error
    except BaseException as error:  # `sys.exit` and panics of Rust extensions are not Exceptions
        raise FilterLoadError(f"{origin} does not start: {secrets.hide(describe(error))}") from error
    if not issubclass(type(made), StreamFilter):
        raise FilterLoadError(f"{origin} makes {type_name(made)}, not a stream filter")
    return cast("StreamFilter", made)
