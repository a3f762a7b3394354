"""A container as Kubernetes runs one, made of namespaces and cgroups: for root, without any other software."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest
from process_fixtures import PYTHON_PATH, public_python
from pymosn_process import PATIENCE, Pymosn, children, eventually

#: A user that has no name.
UID: Final = 54321
CGROUPS: Final = Path("/sys/fs/cgroup")

#: Arguments: the volume and where it is mounted, the writable folder, then the command. Runs as the first process.
SCRIPT: Final = """
set -e
volume=$1 mounted=$2 writable=$3
shift 3
mount --bind "$volume" "$mounted"
mount -o remount,bind,ro "$mounted"
mount -t tmpfs -o "size=16m,mode=0700,uid=%(uid)d" tmpfs "$writable"
for folder in / /tmp /var /usr /home /root /work; do
    if mountpoint -q "$folder"; then mount -o remount,bind,ro "$folder"; fi
done
%(last)s
exec env -i PATH=/usr/bin:/bin PYTHONPATH="$PYTHONPATH" \\
    setpriv --reuid %(uid)d --regid %(uid)d --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


class Cgroup:
    """A cgroup with limits, of version 1 or 2. `missing`: what this machine cannot limit."""

    def __init__(self, memory: int, cpus: float) -> None:
        name = f"pymosn-show-{os.getpid()}"
        self.folders: list[Path] = []
        self.missing: list[str] = []
        self._memory = self._make("memory", name)
        self._cpu = self._make("cpu", name)
        quota = int(cpus * 100_000)
        self._set("memory", self._memory, {"memory.max": str(memory), "memory.limit_in_bytes": str(memory)})
        settings = {"cpu.max": f"{quota} 100000", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(quota)}
        self._set("cpu", self._cpu, settings)

    def _make(self, controller: str, name: str) -> Path | None:
        own = {
            fields[1]: fields[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if (fields := line.split(":", 2))
        }
        parents = [CGROUPS / controller / own.get(controller, "/").strip("/"), CGROUPS]
        for parent in parents:
            folder = parent / name
            with contextlib.suppress(OSError):
                with contextlib.suppress(OSError):  # version 2
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}")
                folder.mkdir(exist_ok=True)
                if any(folder.glob(f"{controller}.*")):
                    self.folders.append(folder)
                    return folder
                folder.rmdir()
        return None

    def _set(self, controller: str, folder: Path | None, settings: dict[str, str]) -> None:
        done = False
        for name, value in settings.items():
            if folder is not None and (folder / name).exists():
                with contextlib.suppress(OSError):
                    (folder / name).write_text(value)
                    done = True
        if not done:
            self.missing.append(controller)

    def most_memory(self) -> int:
        """The most bytes that it used, with cached files; 0 if this kernel does not tell."""
        return max(self._number("memory.peak"), self._number("memory.max_usage_in_bytes"))

    def rss(self) -> int:
        """Bytes in use now, without cached files."""
        text = (self._memory / "memory.stat").read_text() if self._memory is not None else ""
        fields = dict(line.split() for line in text.splitlines())
        return int(fields.get("total_rss", fields.get("anon", 0)))

    def kills(self) -> int:
        """Processes that the kernel has killed for lack of memory."""
        found = 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                fields = dict(line.split() for line in ((self._memory or Path("/")) / name).read_text().splitlines())
                found += int(fields.get("oom_kill", 0))
        return found

    def _number(self, name: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(((self._memory or Path("/")) / name).read_text())
        return 0

    def close(self) -> None:
        for folder in set(self.folders):
            assert eventually(lambda folder=folder: _removed(folder))


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def require_containers() -> None:
    """Skips a show on a machine that cannot make namespaces."""
    if os.geteuid() != 0:
        pytest.skip("only root can make namespaces")
    for program in ("unshare", "setpriv", "mountpoint", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program}")
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"namespaces are not available: {tried.stderr.strip()}")


class Container(Pymosn):
    """pymosn as the first process of a container: the root is read-only, and its user has no name and no HOME.

    `volume` is mounted read-only at `mounted`, and `writable` is a tmpfs. The network is the machine's.
    """

    def __init__(self, volume: Path, mounted: Path, writable: Path, cgroup: Cgroup, *arguments: str, last: str = "") -> None:
        """`last`: a line for the shell, before root is given up."""
        joins = "".join(f"echo $$ > {folder}/cgroup.procs && " for folder in cgroup.folders)
        unshare = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
        inner = ["sh", "-c", SCRIPT % {"uid": UID, "last": last}, "sh", str(volume), str(mounted), str(writable)]
        program = [public_python(), "-m", "pymosn", "start", *arguments]
        command = ["sh", "-c", f'{joins}exec "$@"', "sh", *unshare, *inner, *program]
        self._run(command, Path("/"), {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHON_PATH})

    @property
    def first(self) -> int:
        """The first process of the container, as seen from outside."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def worker_pids(self) -> list[int]:
        return children(self.first, "pymosn.server.worker")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.first, number)

    def end(self) -> None:
        # `--kill-child` is no longer in force: giving up root has cleared it.
        with contextlib.suppress(OSError, IndexError):
            self.send(signal.SIGKILL)
        super().end()

    def states(self) -> dict[str, str]:
        """The states of all its processes, by their commands and ids in the container."""
        found: dict[str, str] = {}
        for entry in Path(f"/proc/{self.first}/root/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit():
                    name, _, rest = (entry / "stat").read_text().partition(" (")[2].rpartition(")")
                    found[f"{name} {entry.name}"] = rest.split()[0]
        return found

    def mounts(self) -> dict[str, list[str]]:
        """The options of its mounts, by path."""
        lines = Path(f"/proc/{self.first}/mountinfo").read_text().splitlines()
        return {fields[4]: fields[5].split(",") for line in lines if (fields := line.split())}

    def run_inside(self, *command: str) -> None:
        """As `kubectl exec`."""
        subprocess.run(["nsenter", "--target", str(self.first), "--mount", "--pid", *command], check=True, timeout=PATIENCE)
