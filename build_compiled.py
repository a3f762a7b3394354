"""How the compiled build is made: mypyc writes one C file per module; only what changed is compiled, on all cores.

Everything lies under build/. Each object and each shared library has a key in a file: a digest of everything that it was
made from. What has the right key is not made again. A key is deleted before its file is replaced and written after it, so an
interrupted build continues where it was.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from build_c_files import separate
from setuptools import Extension
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

#: The name of the shared library. Without it mypyc takes a digest of the list of modules, and a new one changes every file.
GROUP: Final = "pymosn"
#: Where mypyc writes, and where its files are made independent of each other.
MYPYC_FILES: Final = "build/mypyc"
C_FILES: Final = "build/c"
#: -O3 costs twice the time and gains nothing per request.
OPTIMISATION: Final = "2"
#: Only these modules call their functions, so the compiler may inline them and call them directly.
DIRECT_CALLS: Final = ("-fvisibility=hidden", "-fno-semantic-interposition")
#: Seconds between two progress lines where they cannot overwrite each other.
PROGRESS_PERIOD: Final = 5.0
_INCLUDE: Final = re.compile(rb'^[ \t]*#[ \t]*include[ \t]+["<]([^">]+)[">]', re.MULTILINE)


def files_read(source: Path, folders: Sequence[Path]) -> list[Path]:
    """The C file and all that it includes, directly or not, from its own folder and from `folders`; sorted.

    System headers are not among them: they change with the compiler or with Python, which are part of every key.
    """
    found = {source}
    to_read = [source]
    while to_read:
        path = to_read.pop()
        for name in _INCLUDE.findall(path.read_bytes()):
            for folder in (path.parent, *folders):
                included = Path(os.path.normpath(folder / os.fsdecode(name)))
                if included.is_file():
                    if included not in found:
                        found.add(included)
                        to_read.append(included)
                    break
    return sorted(found)


def key_of(command: Iterable[str], paths: Iterable[Path], digests: dict[Path, bytes] | None = None) -> str:
    """A digest of the command and of the contents of the files. `digests` remembers those that were read before."""
    known: dict[Path, bytes] = {} if digests is None else digests
    total = hashlib.sha256("\0".join(command).encode())
    for path in paths:
        if path not in known:
            known[path] = hashlib.sha256(path.read_bytes()).digest()
        total.update(str(path).encode() + b"\0" + known[path])
    return total.hexdigest()


class Product(NamedTuple):
    """A file that is made, the file with its key, and the key that it must have. `make` writes to the path it is given."""

    path: Path
    key_path: Path
    key: str
    size: int
    make: Callable[[Path], None]

    def is_current(self) -> bool:
        """Whether the file is there and was made from exactly what it would be made from now."""
        try:
            return self.path.is_file() and self.key_path.read_text() == self.key
        except FileNotFoundError:
            return False

    def remake(self) -> None:
        """Makes it beside its place and moves it there: a process that has mapped the old file keeps the old one."""
        for folder in (self.path.parent, self.key_path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.key_path.unlink(missing_ok=True)
        unfinished = self.path.with_name(f"{self.path.name}.unfinished")
        unfinished.unlink(missing_ok=True)
        self.make(unfinished)
        unfinished.replace(self.path)
        self.key_path.write_text(self.key)


class Progress:
    """The line that says how far the build is."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._started = self._printed = time.monotonic()
        self._overwrites = sys.stdout.isatty()

    def on_done(self, name: str) -> None:
        """Counts one product, and prints."""
        self._done += 1
        now = time.monotonic()
        is_last = self._done == self._total
        if self._overwrites or is_last or now - self._printed >= PROGRESS_PERIOD:
            self._printed = now
            text = f"pymosn: {self._done} of {self._total} compiled, {now - self._started:.0f} s: {name}"
            end = "\n" if is_last or not self._overwrites else ""
            print(f"\r{text[:78]:78}" if self._overwrites else text, end=end, flush=True)


def make_all(products: Iterable[Product], jobs: int) -> None:
    """Makes those that are not current, the largest first. Raises what the first one that fails raises."""
    due = sorted((product for product in products if not product.is_current()), key=lambda product: -product.size)
    if not due:
        return
    progress = Progress(len(due))
    executor = ThreadPoolExecutor(jobs)
    try:
        futures = {executor.submit(product.remake): product for product in due}
        for future in as_completed(futures):
            future.result()
            progress.on_done(futures[future].path.name.partition(".")[0])
    finally:
        executor.shutdown(cancel_futures=True)


def run(command: Sequence[str]) -> None:
    """Runs a compiler; what it prints is shown. Raises CompileError."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.stdout:
        print(done.stdout, end="", file=sys.stderr)
    if done.returncode != 0:
        raise CompileError(f"failed with {done.returncode}: {shlex.join(command)}")


def prune(folder: Path, wanted: Iterable[Path]) -> None:
    """Deletes what is under `folder` and not wanted, and the folders that are empty then."""
    kept = set(wanted)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept and not (path.parent.name == "__pycache__" and _source_of(path) in kept):
            path.unlink()


def _source_of(bytecode: Path) -> Path:
    return bytecode.parent.parent / f"{bytecode.name.partition('.')[0]}.py"


def separated(sources: Iterable[str]) -> list[str]:
    """mypyc's sources, with those of the modules replaced by files that do not depend on each other."""
    folder = Path(MYPYC_FILES)
    native = [name for name in sources if Path(name).name.startswith("__native_")]
    headers = [(folder / f"__native_{kind}{GROUP}.h").read_text() for kind in ("", "internal_")]
    files = separate({Path(name).name: Path(name).read_text() for name in native}, *headers)
    made = {Path(C_FILES, name): text for name, text in files.items()}
    Path(C_FILES).mkdir(parents=True, exist_ok=True)
    for path, text in made.items():
        path.write_text(text)
    prune(Path(C_FILES), made)
    return [*(name for name in sources if name not in native), *map(str, made)]


def placeholder() -> Extension:
    """Stands for the extensions until they are built: setuptools asks for a list long before that, mypyc takes seconds."""
    return Extension("pymosn.compiled", [])


class BuildCompiled(build_ext):
    """Runs mypyc, and compiles and links what is not current."""

    #: The files to compile.
    modules: Callable[[], list[str]]

    def run(self) -> None:
        if self.extensions:
            self._write_c_files()
            # Whatever asks for the list from here on gets the real one.
            self.distribution.ext_modules = self.extensions
            for extension in self.extensions:
                extension._full_name = self.get_ext_fullname(extension.name)
                self.ext_map[extension._full_name] = extension
                extension._links_to_dynamic = extension._needs_stub = False
                extension._file_name = self.get_ext_filename(extension._full_name)
        super().run()

    def _write_c_files(self) -> None:
        from mypyc.build import mypycify

        paths = type(self).modules()
        started = time.monotonic()
        print(f"pymosn: mypyc translates {len(paths)} modules", flush=True)
        self.extensions = mypycify(
            ["--strict", *paths],
            opt_level=OPTIMISATION,
            debug_level="1",
            multi_file=True,
            group_name=GROUP,
            target_dir=MYPYC_FILES,
        )
        for extension in self.extensions:
            if extension.name.endswith("__mypyc"):
                extension.sources = separated(extension.sources)
        print(f"pymosn: mypyc took {time.monotonic() - started:.0f} s", flush=True)
        if os.name == "posix":
            for extension in self.extensions:
                # Not in place: mypyc gives all extensions the same list.
                extension.extra_compile_args = [*extension.extra_compile_args, *DIRECT_CALLS]

    def build_extensions(self) -> None:
        if self.compiler.compiler_type != "unix":
            super().build_extensions()
            return
        jobs = self.parallel if isinstance(self.parallel, int) and self.parallel > 1 else len(os.sched_getaffinity(0))
        digests: dict[Path, bytes] = {}
        objects = {extension.name: self._objects(extension, digests) for extension in self.extensions}
        make_all([made for of_one in objects.values() for made in of_one], jobs)
        make_all([self._library(extension, objects[extension.name]) for extension in self.extensions], jobs)

    def _objects(self, extension: Extension, digests: dict[Path, bytes]) -> list[Product]:
        """What an extension is linked from."""
        compiler = self.compiler
        folders = [*extension.include_dirs, *compiler.include_dirs]
        command = [*compiler.compiler_so, *(f"-I{folder}" for folder in folders), *extension.extra_compile_args, "-c"]
        ours = [Path(folder) for folder in extension.include_dirs]
        made = []
        for source in map(Path, sorted(extension.sources)):
            key = key_of([*command, _version_of(command[0])], files_read(source, ours), digests)
            path = Path(self.build_temp, source).with_suffix(".o")
            made.append(Product(path, path.with_suffix(".key"), key, source.stat().st_size, _compile(command, source)))
        return made

    def _library(self, extension: Extension, objects: list[Product]) -> Product:
        path = Path(self.get_ext_fullpath(extension.name))
        key_path = Path(self.build_temp, "libraries", f"{extension.name}.key")
        names = [str(made.path) for made in objects]
        libraries = self.get_libraries(extension)
        key = key_of([*self.compiler.linker_so, str(path), *libraries, *names, *(made.key for made in objects)], [])

        def link(to: Path) -> None:
            self.compiler.link_shared_object(names, str(to), libraries=libraries, build_temp=self.build_temp)

        return Product(path, key_path, key, sum(made.size for made in objects), link)


def _compile(command: list[str], source: Path) -> Callable[[Path], None]:
    ccache = [name for name in (shutil.which("ccache"),) if name]
    return lambda to: run([*ccache, *command, str(source), "-o", str(to)])


@cache
def _version_of(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


class CopyChanged(build_py):
    """Copies the files whose contents differ, whatever their times are."""

    command_name = "build_py"

    def copy_file(self, infile: Any, outfile: Any, *rest: Any, **options: Any) -> Any:
        if Path(outfile).is_file() and filecmp.cmp(infile, outfile, shallow=False):
            return outfile, False
        Path(outfile).unlink(missing_ok=True)
        return super().copy_file(infile, outfile, *rest, **options)


class Build(build):
    """Builds, and deletes what an earlier build left that is no part of this one."""

    def run(self) -> None:
        super().run()
        made = [Path(path) for name in self.get_sub_commands() for path in self.get_finalized_command(name).get_outputs()]
        prune(Path(self.build_lib), made)


def commands(modules: Callable[[], list[str]]) -> dict[str, type]:
    """The commands for `setup`; `modules` lists the files to compile."""
    return {
        "build": Build,
        "build_py": CopyChanged,
        "build_ext": type("build_ext", (BuildCompiled,), {"modules": staticmethod(modules)}),
    }
