"""The Python files of one folder in one version, as an import package: modules are made from the source in memory.

The module `helpers` of the folder is called `pymosn_filters_DIGEST_NUMBER.helpers`: a digest of the folder's path, and the
number of the version. So `from . import helpers` works, and two folders or versions never share a module. `import helpers`
finds it too, because the builtins of each module of the folder have an `__import__` of their own (`ModuleImport`). It
records what each module imports, so that a change runs the modules again that depend on it (`filters/modules.py`).

The standard library and installed packages come first: a filter in `jwt.py` can import PyJWT. Nothing is added to
`sys.path`, and what only the current directory or a folder of filters in `sys.path` has does not come first.

Compiled extension modules next to a filter cannot be made from memory: they are loaded from disk, once for all versions.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, Final

from pymosn.filters.collectors import Registrations, wrap_registry
from pymosn.filters.compiling import compile_source, show_source
from pymosn.filters.import_paths import is_installed, names_of, native_module
from pymosn.filters.imports import absolute_name
from pymosn.filters.module_names import PREFIX, body_of, entry_name, module_paths, root_prefix

#: The versions that are in use, by the name of their package.
VERSIONS: Final[weakref.WeakValueDictionary[str, FolderVersion]] = weakref.WeakValueDictionary()


#: The name, the names after `import`, and the leading dots of an import.
ImportKey = tuple[str, tuple[str, ...], int]


class LoadedModule:
    """One module in the version in which it ran; it is its module's `__loader__`.

    `imports`: the names, from the folder on, of the modules that it has imported or tried to import. Of the packages around
    them only the code matters, which is marked by `body_of`. `children`: the modules of a package, which are its attributes.
    """

    def __init__(self, version: FolderVersion, dotted: str) -> None:
        self.dotted = dotted
        self.name = version.name(dotted)
        self.path = version.path(dotted)
        self.content = version.source(dotted)[1]
        #: Where it finds other modules: the latest version that it is a part of.
        self.version = version
        # What its imports have found, because those within functions run again and again. None: not in the folder.
        self.cache: tuple[FolderVersion, dict[ImportKey, ModuleType | None]] = (version, {})
        self.imports: set[str] = set()
        self.children: set[str] = set()
        self.registrations = Registrations() if version.change is None else version.change.record()
        #: Whether it has run to its end.
        self.is_complete = False
        self.package = dotted if version.is_package(dotted) else dotted.rpartition(".")[0]
        self.module = ModuleType(self.name)
        loader: Any = self
        self.spec = ModuleSpec(self.name, loader, origin=self.path or None, is_package=version.is_package(dotted))
        self._set_attributes(version)

    def _set_attributes(self, version: FolderVersion) -> None:
        module: Any = self.module
        module.__spec__, module.__loader__ = self.spec, self
        module.__package__ = version.name(self.package)
        if self.path:
            module.__file__ = self.path
        if self.spec.submodule_search_locations is not None:
            module.__path__ = self.spec.submodule_search_locations
            module.__path__.append(os.path.join(version.folder, *self.dotted.split(".")).rstrip(os.sep))
        module.__builtins__ = {**vars(builtins), "__import__": ModuleImport(self)}

    def move_to(self, version: FolderVersion) -> None:
        """Makes it a part of a later version too; nothing of earlier ones is kept alive."""
        self.version = version
        self.cache = (version, {})

    def run(self) -> None:
        """Executes the source. Raises whatever it raises."""
        if self.content is not None:
            show_source(self.path, self.content)
            with self.registrations.recording():
                exec(compile_source(self.content, self.path), self.module.__dict__)
            self.module = sys.modules.get(self.name, self.module)  # some put another object there
        elif self.path:
            name = f"{root_prefix(self.version.folder)}native.{self.dotted}"
            self.module = sys.modules[self.name] = native_module(name, self.path)

    # ---- the loader: what other code finds in `__loader__` and `__spec__`

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, which exists already."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module has run. The import system may have found it by the name of another version."""
        module.__spec__ = self.spec

    def is_package(self, fullname: str) -> bool:
        return self.spec.submodule_search_locations is not None

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content or b"")

    def get_filename(self, fullname: str) -> str:
        """The configured path of the file."""
        return self.path

    def get_code(self, fullname: str) -> CodeType:
        return compile_source(self.content or b"", self.path)

    def get_data(self, path: str) -> bytes:
        """The content of a data file, from disk."""
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, fullname: str) -> Any:
        """Reads the data files of a package, from disk."""
        from importlib.readers import FileReader  # few filters need it

        loader: Any = SimpleNamespace(path=os.path.join(self.version.folder, *self.package.split("."), "__init__.py"))
        return FileReader(loader)


class FolderVersion:
    """One folder in one version."""

    def __init__(
        self,
        folder: str,
        number: int,
        files: Mapping[str, bytes],
        uninstalled: frozenset[str] = frozenset(),
        change: Any = None,
        like: FolderVersion | None = None,
    ) -> None:
        """`files`: the source by relative path. `uninstalled`: entries of `sys.path` that have no installed packages.

        `change`: the `Replacement` that records collectors until the change is active. `like`: an earlier version.
        """
        self.folder = folder
        self.files = files
        self.root = f"{root_prefix(folder)}{number}"
        self.change = change
        self.modules: dict[str, LoadedModule] = {}
        self.is_closed = False
        self._uninstalled = uninstalled
        is_same = like is not None and like.files == files
        #: Module -> relative path; None for a package without `__init__.py`.
        self._paths: dict[str, str | None] = like._paths if like is not None and is_same else module_paths(files)
        self._own: dict[str, bool] = {}
        self._native: dict[str, str] = {}
        self._names: list[str] | None = None
        # Held while a module runs, because other threads must wait for it. One lock, so that two never wait for each other.
        self._lock = threading.RLock()
        VERSIONS[self.root] = self

    def name(self, dotted: str) -> str:
        """The full name of a module."""
        return f"{self.root}.{dotted}" if dotted else self.root

    def has(self, dotted: str) -> bool:
        return dotted in self._paths or self._native_file(dotted) != ""

    def is_package(self, dotted: str) -> bool:
        path = self._paths.get(dotted, "")
        return path is None or os.path.basename(path) == "__init__.py"

    def path(self, dotted: str) -> str:
        """The file of a module; empty for a package without `__init__.py`."""
        path = self._paths.get(dotted)
        return os.path.join(self.folder, path) if path is not None else self._native_file(dotted)

    def _native_file(self, dotted: str) -> str:
        """The file of a compiled extension module; empty if there is none."""
        found = self._native.get(dotted)
        if found is None:
            stem = os.path.join(self.folder, *dotted.split("."))
            files = [] if dotted in self._paths else [f"{stem}{suffix}" for suffix in EXTENSION_SUFFIXES]
            found = self._native[dotted] = next(filter(os.path.isfile, files), "")
        return found

    def source(self, dotted: str) -> tuple[str | None, bytes | None]:
        """Relative path and content of a module's file; None where it has none."""
        path = self._paths.get(dotted)
        return (path, None if path is None else self.files[path]) if dotted in self._paths else ("", None)

    def module_at(self, name: str) -> str | None:
        """The module of a file in this folder; None if there is no such file."""
        return entry_name(name) if name in self.files else None

    def is_own(self, dotted: str) -> bool:
        """Whether an absolute import means a module of this folder."""
        top = dotted.partition(".")[0]
        own = self._own.get(top)
        if own is None:
            own = self._own[top] = self.has(top) and not is_installed(top, self._uninstalled)
        return own

    def inner_name(self, name: str, is_last: bool) -> str | None:
        """The module that is called `name` because the folder is itself a package in `sys.path`; None if there is none."""
        if self._names is None:
            self._names = names_of(self.folder)
        for own in self._names:
            inner = "" if name == own else name.removeprefix(f"{own}.")
            if inner != name and self.has(inner) and (is_last or "." not in own):
                return inner
        return None

    def load(self, dotted: str) -> LoadedModule:
        """A module, which runs now if it has not yet. ModuleNotFoundError, or whatever it raises."""
        found = self.modules.get(dotted)
        if found is not None and found.is_complete:
            return found
        with self._lock:
            parent = dotted.rpartition(".")[0]
            around = self.load(parent) if dotted else None
            found = self.modules.get(dotted)
            if found is not None:  # perhaps incomplete: in a circle of imports
                return found
            if not self.has(dotted):
                raise ModuleNotFoundError(f"No module named {dotted!r} in {self.folder}", name=dotted)
            return self._run(LoadedModule(self, dotted), around)

    def _run(self, loaded: LoadedModule, around: LoadedModule | None) -> LoadedModule:
        self.modules[loaded.dotted] = loaded
        sys.modules[loaded.name] = loaded.module  # dataclasses and pickle find their module by name
        name = loaded.dotted.rpartition(".")[2]
        if around is not None:
            around.children.add(loaded.dotted)
            if name not in attributes(around.module):
                bind(around.module, name, loaded.module)  # already now, for names such as `f"{__name__}.Handler"`
        if self.is_package(loaded.dotted):
            for child in list(self.modules.values()):
                if child.dotted and child.dotted.rpartition(".")[0] == loaded.dotted and child.is_complete:
                    loaded.children.add(child.dotted)
                    bind(loaded.module, child.dotted.rpartition(".")[2], child.module)
        before = loaded.module
        try:
            _run_within(loaded, around)
        except BaseException:
            loaded.registrations.remove()
            if around is not None:
                unbind(around.module, name, before)
            del self.modules[loaded.dotted]
            sys.modules.pop(loaded.name, None)
            raise
        loaded.is_complete = True
        if around is not None:
            bind(around.module, name, loaded.module)
        if self.is_closed:
            sys.modules.pop(loaded.name, None)
        return loaded

    def close(self, modules: Iterable[LoadedModule]) -> None:
        """Forgets modules of a version that is no longer used."""
        self.is_closed = True
        for loaded in modules:
            if sys.modules.get(loaded.name) is loaded.module:
                del sys.modules[loaded.name]


class ModuleImport:
    """`__import__` for the code of one module."""

    def __init__(self, loaded: LoadedModule) -> None:
        self._loaded = loaded

    @property
    def registrations(self) -> Registrations:
        """The collectors of the module."""
        return self._loaded.registrations

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """As `builtins.__import__`."""
        version = self._loaded.version
        cache = self._loaded.cache
        if cache[0] is not version:
            cache = self._loaded.cache = (version, {})
        known = cache[1]
        key = (name, tuple(fromlist or ()), level)
        found = known.get(key)
        if found is not None:
            return found
        if key not in known:
            dotted = self._own_name(name, level, bool(fromlist))
            if dotted is not None:
                found = self._import_own(name, dotted, fromlist or ())
                if all(loaded.is_complete for loaded in list(version.modules.values())):
                    known[key] = found
                return found
            known[key] = None
        made = builtins.__import__(name, globals, locals, fromlist or (), level)
        wrap_registry(calling_registrations)
        return made

    def _import_own(self, name: str, dotted: str, fromlist: Sequence[str]) -> ModuleType:
        if fromlist:
            return self._load_from(dotted, fromlist)
        self._load(dotted)
        # As `import a.b` gives `a`: what is named first, or the package of the folder if that is.
        first = dotted.removesuffix(name) + name.partition(".")[0] if dotted.endswith(name) else ""
        return self._loaded.version.load(first).module

    def import_module(self, name: str, package: str | None) -> ModuleType | None:
        """As `importlib.import_module`; None if the module is not one of the folder."""
        if name.startswith("."):
            name = importlib.util.resolve_name(name, package)
        dotted = self._own_name(name, 0, True)
        return None if dotted is None else self._load(dotted).module

    def _own_name(self, name: str, level: int, is_last: bool) -> str | None:
        """The name of a module from the folder on; None if it is not one of the folder.

        `is_last`: the import is for the last part of the name, and not for the first.
        """
        version = self._loaded.version
        if level > 0:
            package = self._loaded.package
            dotted = absolute_name(name, level, package.split(".") if package else [])
            if dotted is None:
                raise ImportError("attempted relative import beyond the folder of the filter")
            return dotted
        if name.startswith(PREFIX):
            root, _, rest = name.partition(".")
            return rest if root.startswith(root_prefix(version.folder)) else None
        if version.is_own(name):
            return name
        inner = version.inner_name(name, is_last)
        if inner is not None:
            return inner
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names:
            self._loaded.imports.add(top)  # it may be added to the folder later
        return None

    def _load(self, dotted: str) -> LoadedModule:
        """The module that `import dotted` means."""
        parts = dotted.split(".")
        self._loaded.imports |= {".".join(parts[: i + 1]) for i in range(len(parts))}
        return self._load_within(dotted)

    def _load_within(self, dotted: str) -> LoadedModule:
        """A module, after the packages around it."""
        version, own = self._loaded.version, self._loaded.package
        parts = dotted.split(".")
        for i in range(len(parts)):
            around = ".".join(parts[:i])
            if around and own != around and not own.startswith(f"{around}."):
                self._loaded.imports.add(body_of(around))
            version.load(around)
        return version.load(dotted)

    def _load_from(self, dotted: str, names: Sequence[str]) -> ModuleType:
        """The module that `from dotted import names` means; loads those of `names` that are modules too."""
        version, imports = self._loaded.version, self._loaded.imports
        if not version.has(dotted) or not version.is_package(dotted):
            imports.add(dotted)
            return self._load_within(dotted).module
        package = self._load_within(dotted).module
        if "*" in names:
            imports.add(dotted)
            names = [*names, *getattr(package, "__all__", ())]
        for name in names:
            inner = f"{dotted}.{name}" if dotted else name
            known = version.modules.get(inner)
            if known is not None and attributes(package).get(name) is known.module:
                imports.add(inner)
                self._load_within(inner)
            elif hasattr(package, name) or not version.has(inner):
                imports |= {dotted, inner}
            else:
                imports.add(inner)
                self._load_within(inner)
        return package


def _run_within(loaded: LoadedModule, around: LoadedModule | None) -> None:
    """Runs a module in its package, which may be of an earlier version.

    In a circle of imports, `from package import module` finds it only in `sys.modules`, by the package's own name.
    """
    name = loaded.name if around is None else f"{around.name}.{loaded.dotted.rpartition('.')[2]}"
    if name == loaded.name:
        loaded.run()
        return
    before = sys.modules.get(name)
    sys.modules[name] = loaded.module
    try:
        loaded.run()
    finally:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before


def calling_registrations() -> Registrations | None:
    """Those of the innermost module of a filter on the stack."""
    frame = sys._getframe(2)
    while frame is not None:
        hook = frame.f_builtins.get("__import__")
        if isinstance(hook, ModuleImport):
            return hook.registrations
        frame = frame.f_back  # type: ignore[assignment]
    return None


def attributes(module: object) -> dict[str, object]:
    """What a module itself has as attributes. It may be any object, because modules can replace themselves."""
    try:
        return dict(vars(module))
    except BaseException:  # it has no `__dict__`, or one of its own
        return {}


def bind(package: object, name: str, module: object) -> None:
    """Makes a module an attribute of its package."""
    with contextlib.suppress(AttributeError):  # as in an ordinary import, if the package has replaced itself
        setattr(package, name, module)


def unbind(package: object, name: str, module: object) -> None:
    """Undoes `bind`, unless the attribute has another value by now."""
    if attributes(package).get(name) is module:
        with contextlib.suppress(AttributeError):
            delattr(package, name)
