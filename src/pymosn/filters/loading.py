"""Loads filters and extensions in Python: a class in a file next to the configuration, or one of an installed package."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pymosn.api.connection_filter import ConnectionFilter, SharedState
from pymosn.api.extension import Extension
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
CONNECTION_FILTERS: Final = "pymosn.network_filters"
PROTOCOLS: Final = "pymosn.protocols"
EXTENSIONS: Final = "pymosn.extensions"

#: The class of a connection filter, and the state that its objects share.
Loaded = tuple[type[ConnectionFilter], SharedState]


def entry_points_of(group: str) -> list[EntryPoint]:
    """The entry points of installed packages in a group."""
    from importlib.metadata import entry_points  # 3 MB: only for configurations that need it

    return list(entry_points(group=group))


#: The connection filters that pymosn has itself, by their name: the module and the class.
SHIPPED_CONNECTION_FILTERS: Final = {
    "rbac": ("pymosn.filters.connection.rbac", "RbacConnectionFilter"),
    "external_authz": ("pymosn.filters.connection.external_authz", "ExternalAuthzConnectionFilter"),
}


def connection_filters() -> list[str]:
    """The names of all connection filters that are not in files."""
    return sorted({*SHIPPED_CONNECTION_FILTERS, *installed(CONNECTION_FILTERS)})


def class_fault(text: str) -> str:
    """Why `package.module:Class` cannot name a class of an installed package; empty if it can. Imports nothing of it."""
    module, colon, name = text.partition(":")
    parts = module.split(".")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in parts):
        return f"expected package.module:Class, got {text!r}"
    if "__main__" in parts:
        return f"{module} is a program, which runs when it is imported"
    from importlib.metadata import packages_distributions  # 3 MB: only for configurations that need it

    if parts[0] not in packages_distributions():
        return f"no installed package has the module {module!r}"
    return ""


def installed(group: str) -> list[str]:
    """The names in an entry-point group."""
    return sorted({point.name for point in entry_points_of(group)})


def load_installed(name: str, config: dict[str, object]) -> StreamFilter:
    """Creates the filter that an installed package offers as `name`, or has as `package.module:Class`. FilterLoadError."""
    if ":" in name:
        return _make(_installed_class(name), name, config)
    return _make(*_installed(FILTERS, "a stream filter", name), config)


def load_installed_connection_filter(name: str, config: dict[str, object]) -> Loaded:
    """The same for a connection filter."""
    return _make_shared(*_installed(CONNECTION_FILTERS, "a connection filter", name), config)


def load_installed_extension(name: str, config: dict[str, object]) -> Extension:
    """The same for an extension of the process."""
    return _make_extension(*_installed(EXTENSIONS, "an extension", name), config)


def _installed_class(text: str) -> object:
    """The class `package.module:Class` of an installed package. Raises FilterLoadError."""
    fault = class_fault(text)
    if fault:
        raise FilterLoadError(fault)
    module, _, name = text.partition(":")
    try:
        found: object = getattr(import_module(module), name)
    except BaseException as error:  # a package may call `sys.exit`
        raise FilterLoadError(f"cannot load {text}: {describe(error)}") from error
    wrap_registry(calling_registrations)
    return found


def _installed(group: str, what: str, name: str) -> tuple[object, str]:
    """What a package offers, and where it comes from. Raises FilterLoadError."""
    if group == CONNECTION_FILTERS and name in SHIPPED_CONNECTION_FILTERS:
        module, kind = SHIPPED_CONNECTION_FILTERS[name]
        shipped: object = getattr(import_module(module), kind)
        return shipped, name
    for point in entry_points_of(group):
        if point.name == name:
            try:
                found: object = point.load()
            except BaseException as error:  # a package may call `sys.exit`
                raise FilterLoadError(f"cannot load {point.value}: {describe(error)}") from error
            wrap_registry(calling_registrations)
            return found, point.value
    raise FilterLoadError(f"no installed package offers {what} {name!r}")


def load_filter(path: Path, class_name: str, config: dict[str, object], modules: ModuleDraft | None = None) -> StreamFilter:
    """Creates a filter of class `class_name` in the file `path`. Raises FilterLoadError.

    `modules`: where its module comes from; None: reads the file and its folder now, for this filter alone.
    """
    return _make(_class_in(path, class_name, modules, is_filter, "stream filters"), f"{path}:{class_name}", config)


def load_connection_filter(
    path: Path, class_name: str, config: dict[str, object], modules: ModuleDraft | None = None
) -> Loaded:
    """The class of a connection filter in the file `path`, and its shared state. As `load_filter`."""
    found = _class_in(path, class_name, modules, is_connection_filter, "connection filters")
    return _make_shared(found, f"{path}:{class_name}", config)


def load_extension(path: Path, class_name: str, config: dict[str, object], modules: ModuleDraft) -> Extension:
    """Creates the extension of class `class_name` in the file `path`. As `load_filter`."""
    return _make_extension(_class_in(path, class_name, modules, is_extension, "extensions"), f"{path}:{class_name}", config)


def _class_in(
    path: Path, class_name: str, modules: ModuleDraft | None, is_kind: Callable[[object], bool], what: str
) -> object:
    """What a file calls `class_name`. Raises FilterLoadError."""
    module = (modules or _draft_of(path)).load(path)
    try:
        found = getattr(module, class_name, None)
    except BaseException as error:  # of the module's `__getattr__`
        raise FilterLoadError(f"cannot load {path}:{class_name}: {describe(error)}") from error
    if found is None:
        near = ", ".join(name for name, value in attributes(module).items() if is_kind(value)) or "none"
        raise FilterLoadError(f"{path} has no class {class_name!r} ({what} in it: {near})")
    value: object = found
    return value


def _draft_of(path: Path) -> ModuleDraft:
    sources = read_sources([path])
    return ModuleStore().draft(sources.folders, sources.faults)


def is_filter(value: object) -> bool:
    """Whether a value is a class of stream filters."""
    return _is_derived(value, StreamFilter)


def is_connection_filter(value: object) -> bool:
    """Whether a value is a class of connection filters."""
    return _is_derived(value, ConnectionFilter)


def is_extension(value: object) -> bool:
    """Whether a value is a class of extensions of the process."""
    return _is_derived(value, Extension)


def _is_derived(value: object, base: type) -> bool:
    # By its type: a lazy object at the top of a module may raise when it is asked for its `__class__`.
    return issubclass(type(value), type) and issubclass(cast("type", value), base) and value is not base


def _make(found: object, origin: str, config: dict[str, object]) -> StreamFilter:
    if not is_filter(found):
        raise FilterLoadError(f"{origin} is not a subclass of pymosn.api.StreamFilter")
    made = _call(cast("type", found), lambda: cast("type", found), origin, config)
    if not issubclass(type(made), StreamFilter):
        raise FilterLoadError(f"{origin} makes {type_name(made)}, not a stream filter")
    return cast("StreamFilter", made)


def _make_extension(found: object, origin: str, config: dict[str, object]) -> Extension:
    if not is_extension(found):
        raise FilterLoadError(f"{origin} is not a subclass of pymosn.api.Extension")
    made = _call(cast("type", found), lambda: cast("type", found), origin, config)
    if not issubclass(type(made), Extension):
        raise FilterLoadError(f"{origin} makes {type_name(made)}, not an extension")
    return cast("Extension", made)


def _make_shared(found: object, origin: str, config: dict[str, object]) -> Loaded:
    if not is_connection_filter(found):
        raise FilterLoadError(f"{origin} is not a subclass of pymosn.api.ConnectionFilter")
    kind = cast("type[ConnectionFilter]", found)
    made = _call(kind, lambda: kind.Shared, origin, config)
    if not issubclass(type(made), SharedState):
        raise FilterLoadError(f"the Shared of {origin} makes {type_name(made)}, not a pymosn.api.SharedState")
    return kind, cast("SharedState", made)


def _call(kind: type, maker: Callable[[], Callable[[object], object]], origin: str, config: dict[str, object]) -> object:
    """Calls what `maker` returns with the configuration of a filter of class `kind`. Raises FilterLoadError."""
    secrets = KnownSecrets()
    try:
        settings = getattr(kind, "Config", None)
        redacted_settings(config, secret_fields(settings), secrets.add)
        return maker()(typed_config(settings, config))
    except FilterConfigError as error:
        raise FilterConfigError([(path, secrets.hide(text)) for path, text in problems_of(error)]) from None
    except FilterLoadError as error:
        raise FilterLoadError(secrets.hide(reason(error))) from error
    except BaseException as error:  # `sys.exit` and panics of Rust extensions are not Exceptions
        raise FilterLoadError(f"{origin} does not start: {secrets.hide(describe(error))}") from error
