"""Issue 13, show 3: deployed as Kubernetes does, edits by ConfigMap are active within a second, and no request fails."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containing import UID, Cgroup, Container, require_containers
from live_edits import LIMIT, Versions, publish, source
from pymosn_process import READY, TwoHops, eventually
from showing import mib, run, sized, tell

from load_client import Load, bad, percentile, summary
from show_upstream import ShowUpstream

WORKERS = 2
FULL = 20
CLIENTS = 8
ENTRY = {"type": "python", "config": {"path": "edited.py", "class": "Edited"}}
MEMORY = 256 << 20
CPUS = 1.0


class Pod:
    """The folders of a pod: a ConfigMap on its node, where it is mounted, and a folder that can be written."""

    def __init__(self, folder: Path) -> None:
        self.volume = folder / "node" / "configmap"
        self.mounted = folder / "etc"
        self.writable = folder / "run"
        for made in (self.volume, self.mounted, self.writable):
            made.mkdir(parents=True)
        self.config: dict[str, object] = {}

    def publish(self, version: str) -> None:
        publish(self.volume, version, {**source(version), "mosn.json": json.dumps(self.config)})

    def start(self, cgroup: Cgroup, last: str = "") -> Container:
        arguments = ("-c", str(self.mounted / "mosn.json"), "--workers", str(WORKERS))
        return Container(self.volume, self.mounted, self.writable, cgroup, *arguments, last=last)


@pytest.fixture
def pod() -> Iterator[Pod]:
    require_containers()
    # Not in pytest's own folder, which only root can enter.
    folder = Path(tempfile.mkdtemp(prefix="pymosn-show-"))
    folder.chmod(0o755)
    yield Pod(folder)
    shutil.rmtree(folder)


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = Cgroup(MEMORY, CPUS)
    yield made
    made.close()


@pytest.mark.parametrize("last", ["true", "mount -t tmpfs -o ro tmpfs /proc"], ids=["with_proc", "without_proc"])
def test_nothing_is_writable(pod: Pod, cgroup: Cgroup, last: str) -> None:
    run(edited_once(pod, cgroup, f"umount {pod.writable}; {last}", lambda: pod.publish("1")))


def test_file_that_is_mounted_alone(pod: Pod, cgroup: Cgroup) -> None:
    """As `docker run -v ./edited.py:/etc/edited.py`: what is written to it on the machine is noticed."""
    on_node = pod.volume.parent / "edited.py"
    on_node.write_text(source("0")["edited.py"])
    mount = f"mount --bind {on_node} {pod.mounted}/edited.py"

    def edit() -> None:
        on_node.write_text(source("1")["edited.py"].replace("{HELPED}", "1"))

    run(edited_once(pod, cgroup, mount, edit))


async def edited_once(pod: Pod, cgroup: Cgroup, last: str, edit: Callable[[], None]) -> None:
    """Starts a container, waits until an edit to version 1 is active, and ends it."""
    async with ShowUpstream() as upstream:
        hops = TwoHops(upstream.port)
        hops.server["listeners"][0]["stream_filters"] = [ENTRY]
        pod.config = hops.config
        pod.publish("0")
        proxy = pod.start(cgroup, last)
        try:
            await asyncio.to_thread(proxy.wait_for, READY)
            versions = Versions(hops.client_port, lambda: [proxy.first, *proxy.worker_pids()], WORKERS)
            await versions.active("0")
            await versions.after(edit, "1")
            proxy.send(signal.SIGTERM)
            assert await asyncio.to_thread(proxy.exit_code) == 0, proxy.output
        finally:
            proxy.end()
        assert versions.times[-1] < LIMIT


def configured(pod: Pod, hops: TwoHops) -> None:
    hops.server["listeners"][0]["stream_filters"] = [ENTRY]
    hops.config["pid"] = str(pod.writable / "pymosn.pid")
    hops.config["admin"]["socket"] = str(pod.writable / "admin.sock")
    hops.server["listeners"][0]["access_logs"] = [{"log_path": str(pod.writable / "access.log")}]
    pod.config = hops.config
    pod.publish("0")


@sized("swaps", 4, FULL)
def test_config_map_in_a_container(pod: Pod, cgroup: Cgroup, swaps: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            hops = TwoHops(upstream.port)
            configured(pod, hops)
            proxy = Container(
                pod.volume,
                pod.mounted,
                pod.writable,
                cgroup,
                "-c",
                str(pod.mounted / "mosn.json"),
                "--workers",
                str(WORKERS),
            )
            try:
                await asyncio.to_thread(proxy.wait_for, READY)
                check_that_it_is_contained(proxy)
                versions = Versions(hops.client_port, lambda: [proxy.first, *proxy.worker_pids()], WORKERS)
                await versions.active("0")
                load = Load(hops.client_port, CLIENTS)
                await load.reaches(100)
                for version in map(str, range(1, swaps + 1)):
                    await versions.after(lambda version=version: pod.publish(version), version)
                    # An orphan, which the first process gets; `kubectl exec` leaves such.
                    await asyncio.to_thread(proxy.run_inside, "sh", "-c", "sleep 0.01 & exec true")
                    await load.reaches(len(load.asked) + 100)
                rss, used = cgroup.rss(), cgroup.most_memory()
                load.stop()
                asked = await load.done()
                await asyncio.to_thread(check_that_no_zombies_remain, proxy)
                assert len(proxy.worker_pids()) == WORKERS
                in_drain = Load(hops.client_port, CLIENTS)
                await in_drain.reaches(100)
                proxy.send(signal.SIGTERM)
                drained = await in_drain.done()
                assert await asyncio.to_thread(proxy.exit_code) == 0, proxy.output
            finally:
                proxy.end()
            versions.times.sort()
            versions.elapsed.sort()
            tell(
                f"{swaps} ConfigMaps in a container of {mib(MEMORY)} and {CPUS:g} CPU",
                requests=len(asked),
                failed=len(bad(asked)),
                active_median=f"{versions.elapsed[swaps // 2]:.2f} s",
                most=f"{versions.elapsed[-1]:.2f} s",
                of_that_without_waits_for_a_core=f"{versions.times[-1]:.2f} s",
                p99=f"{percentile(asked, 0.99):.0f} ms",
                memory=mib(rss),
                most_with_cached_files=mib(used),
                not_limited_here=cgroup.missing or "nothing",
            )
            assert bad(asked) == [], summary(asked)
            # In the drain each client is refused once, when no worker accepts any more.
            assert [one.error for one in bad(drained)] == ["connect"] * CLIENTS, summary(drained)
            # Beside other tests, the time that other load takes does not count.
            assert (versions.elapsed if swaps == FULL else versions.times)[-1] < LIMIT
            assert cgroup.kills() == 0
            assert rss < MEMORY
            if cgroup.missing:
                pytest.skip(f"passed, but this machine cannot limit {' and '.join(cgroup.missing)}")

    run(scenario())


def check_that_it_is_contained(proxy: Container) -> None:
    """That the show shows what it claims."""
    status = Path(f"/proc/{proxy.first}/status").read_text()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert fields["NSpid"][-1] == "1"
    assert fields["Uid"] == [str(UID)] * 4
    assert fields["CapBnd"] == ["0" * 16]
    environment = Path(f"/proc/{proxy.first}/environ").read_bytes()
    assert b"HOME=" not in environment
    writable = [
        path
        for path, options in proxy.mounts().items()
        if "rw" in options and not path.startswith(("/dev", "/proc", "/sys"))
    ]
    assert len(writable) == 1, writable
    assert writable[0].endswith("/run")


def check_that_no_zombies_remain(proxy: Container) -> None:
    """Of the last orphan, too; it may still sleep when this is called."""

    def are_only_its_own() -> bool:
        states = proxy.states()
        return "Z" not in states.values() and len(states) == 2 + WORKERS  # with the supervisor and the reaper

    assert eventually(are_only_its_own), proxy.states()
