"""What must be watched to notice every change of a file, such as a certificate, or of a filter's source.

The source of a filter is its file, and the modules and packages in its folder. Each of them is found by a path, and each
name in this path is an entry of some folder, which may be replaced: a file by an editor, the link `..data` by Kubernetes,
the link `current` by a deployment, a folder by `mv`. So all these folders are watched for these names, links followed step
by step. Of a path that does not exist, the last existing folder is watched for the first missing name.

The files are watched too, because a file can be written to by another name: by a hard link, or behind a bind mount.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pymosn.filters.sources import may_be_package
from pymosn.server.inotify import ATTRIB, CONTENTS, CREATE, ENTRIES, ISDIR, MOVED_TO

#: As many links as the kernel follows in a path.
MAX_LINKS: Final = 40
#: Folders of one filter that are watched for new modules, from the top down.
MAX_PACKAGES: Final = 256
#: File systems that report only changes made on this machine, and not those made by other machines, or by the host.
REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "lustre", "gpfs", "ocfs2", "gfs2", "beegfs"}
    | {"orangefs", "pvfs2", "glusterfs", "vboxsf", "vmhgfs", "prl_fs", "fuse", "fuseblk", "ncpfs", "coda"}
)


@dataclass
class Watched:
    """A file, or a folder and what matters in it. `identity`: device and inode, because another one may get its path."""

    path: str
    identity: tuple[int, int]
    is_file: bool = False
    #: Entries that are parts of paths.
    names: set[str] = field(default_factory=set)
    #: Whether modules are imported from it.
    has_modules: bool = False
    #: Whether a file in it is read.
    has_files: bool = False

    @property
    def mask(self) -> int:
        """The events that inotify must report. Writes to files in a busy folder above are none of them."""
        if self.is_file:
            return ATTRIB | CONTENTS
        return ENTRIES | CONTENTS if self.has_files or self.has_modules else ENTRIES

    def matters(self, mask: int, name: str) -> bool:
        """Whether an event of this file or folder may concern what is watched."""
        if self.is_file or name in self.names:
            return True
        if not self.has_modules or name.endswith(".py"):
            return self.has_modules
        # It may be a package: a folder, or a new link to one. Links that are there already are among the names.
        is_new = mask & (CREATE | MOVED_TO) != 0
        return may_be_package(name) and (mask & ISDIR != 0 or (is_new and os.path.islink(os.path.join(self.path, name))))


Plan = dict[str, Watched]


def plan_for(paths: Iterable[str], sources: Iterable[str], has_modules: bool = True) -> Plan:
    """What to watch for the filters in the files `paths`, by real paths; also what is missing is watched for.

    `sources`: their source files, as far as they are known. `has_modules`: False for other files than filters.
    """
    plan: Plan = {}
    for path in sorted({*paths, *sources}):
        _follow(path, plan)
    if not has_modules:
        return plan
    folders = {os.path.dirname(path) for path in sources}
    for folder in sorted(folders.union(*(package_folders(os.path.dirname(path)) for path in paths))):
        _add_modules(folder, plan)
    return plan


def package_folders(top: str) -> list[str]:
    """A filter's folder, and those below it that may be packages, without virtual environments; links are followed once."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    todo = [top]
    while todo and len(found) < MAX_PACKAGES:
        folder = todo.pop(0)
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(folder))
            identity = _identity(folder)
            if identity not in seen and (folder == top or "pyvenv.cfg" not in names):
                seen.add(identity)
                found.append(folder)
                inner = [os.path.join(folder, name) for name in names if may_be_package(name)]
                todo += filter(os.path.isdir, inner)
    return found


class Attributes(NamedTuple):
    """Shows cheaply that a file or folder is not the same any more. `changed`: seconds since 1970."""

    real_path: str
    identity: tuple[int, int]
    size: int
    modified: int
    changed: float


def attributes(paths: Iterable[str]) -> dict[str, Attributes | None]:
    """The attributes of files and folders; None for those that cannot be found."""
    return {path: _attributes_of(path) for path in paths}


def _attributes_of(path: str) -> Attributes | None:
    try:
        of = os.stat(path)
        return Attributes(os.path.realpath(path), (of.st_dev, of.st_ino), of.st_size, of.st_mtime_ns, of.st_ctime)
    except OSError:
        return None


def remote_mounts(plan: Plan, mounts: str) -> list[str]:
    """Network file systems of these folders, as `nfs4 at /mnt/filters`. `mounts`: the content of /proc/self/mountinfo."""
    devices = {f"{os.major(device)}:{os.minor(device)}" for device, _ in (watched.identity for watched in plan.values())}
    found = []
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split(" ", 1)[0]
        is_remote = kind in REMOTE or kind.startswith("fuse.")
        if is_remote and len(fields) > 4 and fields[2] in devices:
            found.append(f"{kind} at {fields[4]}")
    return found


def _add_modules(folder: str, plan: Plan) -> None:
    real = _follow(folder, plan)
    if real is None or not _add(real, plan):
        return
    plan[real].has_modules = True
    with contextlib.suppress(OSError):
        for name in os.listdir(real):
            path = os.path.join(real, name)
            if name.endswith(".py") or (may_be_package(name) and os.path.islink(path)):
                _follow(path, plan)


def _follow(path: str, plan: Plan) -> str | None:
    """Adds the folders in which the names of a path are found. Returns its real path; None if it does not exist."""
    folder = "/"
    names = os.path.join(os.getcwd(), path).split("/")
    links = 0
    while names:
        name = names.pop(0)
        if name == "..":
            folder = os.path.dirname(folder)
        elif name not in ("", "."):
            if not _add(folder, plan, {name}):
                return None
            full = os.path.join(folder, name)
            try:
                mode = os.lstat(full).st_mode
                target = os.readlink(full) if stat.S_ISLNK(mode) else ""
            except OSError:
                return None
            if not target:
                if stat.S_ISREG(mode):
                    plan[folder].has_files = True
                    _add(full, plan, is_file=True)
                folder = full
                continue
            links += 1
            if links > MAX_LINKS:
                return None
            folder = "/" if target.startswith("/") else folder
            names = target.split("/") + names
    return folder


def _add(path: str, plan: Plan, names: Collection[str] = (), is_file: bool = False) -> bool:
    """Adds a file or folder, or names in a folder; False if it does not exist."""
    if path not in plan:
        try:
            plan[path] = Watched(path, _identity(path), is_file)
        except OSError:
            return False
    plan[path].names.update(names)
    return True


def _identity(path: str) -> tuple[int, int]:
    of = os.stat(path)
    return of.st_dev, of.st_ino
