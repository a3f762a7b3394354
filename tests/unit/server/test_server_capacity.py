"""The numbers of workers and their memory, and the limits of cgroups as files."""

import os
from pathlib import Path

import pytest

from pymosn.config.schema import MosnConfig, Overload, Server
from pymosn.server import run_options
from pymosn.server.capacity import MIB, fitting, share_of, too_small
from pymosn.server.cgroups import cpu_quota, cpus, memory_limit
from pymosn.server.run_options import StartError, plan_workers


@pytest.mark.parametrize(
    ("wanted", "limit", "expected"),
    [(8, 0, 8), (8, 256, 3), (2, 256, 2), (8, 1024, 8), (64, 1024, 15), (8, 128, 1), (8, 64, 1), (1, 16, 1)],
)
def test_as_many_workers_as_fit(wanted: int, limit: int, expected: int) -> None:
    count, why = fitting(wanted, limit * MIB)
    assert count == expected
    assert bool(why) == (count < wanted)


def test_the_arithmetic_is_shown() -> None:
    assert fitting(8, 256 * MIB)[1] == (
        "starting 3 instead of 8 workers: the memory limit is 256 MiB; the supervisor needs 64 MiB, and each worker 64 MiB"
    )


def test_small_containers_are_shared_too() -> None:
    assert share_of(64 * MIB, 2) == 16 * MIB


def test_a_configured_limit_of_each_worker_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_options, "memory_limit", lambda: 256 * MIB)
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    plan = plan_workers(8, MosnConfig(servers=[Server()]))
    assert (plan.number, plan.decided_by) == (3, "the memory limit, 256 MiB")
    assert "starting 3 instead of 8 workers" in plan.fewer
    for configured in (-1, 30 * MIB):
        server = Server(overload=Overload(memory_limit=configured))
        assert plan_workers(8, MosnConfig(servers=[server])) == (8, "--workers", "")


@pytest.mark.parametrize(
    ("limit", "is_refused"), [(0, False), (16, True), (48, True), (63, True), (64, False), (256, False)]
)
def test_a_limit_that_no_worker_fits_into_is_refused(monkeypatch: pytest.MonkeyPatch, limit: int, is_refused: bool) -> None:
    """Before the kernel kills the supervisor, so that somebody learns why."""
    monkeypatch.setattr(run_options, "memory_limit", lambda: limit * MIB)
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    assert bool(too_small(limit * MIB)) == is_refused
    if is_refused:
        with pytest.raises(StartError) as caught:
            plan_workers(1, MosnConfig(servers=[Server()]))
        assert caught.value.lines == [
            f"the memory limit is {limit} MiB, too little for the supervisor and one worker; 128 MiB are enough, and"
            " 64 MiB for each further worker"
        ]
    server = Server(overload=Overload(memory_limit=-1))
    assert plan_workers(1, MosnConfig(servers=[server])) == (1, "--workers", "")


def test_a_number_of_workers_that_must_be_a_typo_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MosnConfig(servers=[Server(overload=Overload(memory_limit=-1))])
    monkeypatch.setenv("GOMAXPROCS", "1025")
    with pytest.raises(StartError) as caught:
        plan_workers(None, config)
    assert caught.value.lines == ["1025 workers are requested, 1024 are allowed"]
    assert plan_workers(1024, config).number == 1024


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_memory_limits(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    group = root / "pod" / "box"
    group.mkdir(parents=True)
    assert memory_limit(root, own) == 0
    own.write_text("0::/pod/box\n")
    assert memory_limit(root, own) == 0
    write(group, memory__max="max\n")
    assert memory_limit(root, own) == 0
    write(group.parent, memory__max="1000\n")
    assert memory_limit(root, own) == 1000
    write(group, memory__max="900\n")
    assert memory_limit(root, own) == 900
    write(group, memory__high="850\n")
    assert memory_limit(root, own) == 850
    own.write_text("5:cpu,memory:/box\n")
    write(root / "memory" / "box", memory__limit_in_bytes="9223372036854771712\n")
    assert memory_limit(root, own) == 0
    write(root / "memory" / "box", memory__limit_in_bytes="800\n")
    assert memory_limit(root, own) == 800


def test_cpu_quotas(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    assert cpu_quota(root, own) == 0.0
    own.write_text("0::/pod/box\n")
    write(root / "pod" / "box", cpu__max="max 100000\n")
    assert cpu_quota(root, own) == 0.0
    write(root / "pod", cpu__max="400000 100000\n")
    assert cpu_quota(root, own) == 4.0
    write(root / "pod" / "box", cpu__max="150000 100000\n")
    assert cpu_quota(root, own) == 1.5
    own.write_text("0::/\n3:cpu,cpuacct:/box\n")
    assert cpu_quota(root, own) == 0.0
    write(root / "cpu,cpuacct" / "box", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert cpu_quota(root, own) == 0.0
    write(root / "cpu,cpuacct" / "box", cpu__cfs_quota_us="50000\n")
    assert cpu_quota(root, own) == 0.5
    # Seen from within the container: the group is the root of the mount, and its path leads nowhere.
    write(root / "cpu", cpu__cfs_quota_us="20000\n", cpu__cfs_period_us="100000\n")
    assert cpu_quota(root, own) == 0.2


def roots(tmp_path: Path, own: str, **groups: str) -> tuple[Path, Path]:
    """Cgroups as files: `own` is /proc/self/cgroup; folders (`__` is `/`) -> the quota and the period of their group."""
    root = tmp_path / "fs"
    root.mkdir()
    (tmp_path / "cgroup").write_text(own)
    for folder, text in groups.items():
        quota, _, period = text.partition(" ")
        group = root / folder.replace("__", "/").replace("ROOT", ".")
        if folder.startswith("cpu"):
            write(group, cpu__cfs_quota_us=quota, **({"cpu__cfs_period_us": period} if period else {}))
        else:
            write(group, cpu__max=text)
    return root, tmp_path / "cgroup"


V2 = "0::/pod/box\n"
V1 = "4:memory:/pod/box\n3:cpu:/pod/box\n"
HYBRID = "3:cpu,cpuacct:/pod/box\n1:name=systemd:/init\n0::/init\n"


@pytest.mark.parametrize(
    ("own", "groups", "expected"),
    [
        # Version 2: the smallest of all ancestors, in either order.
        (V2, {"pod__box": "200000 100000", "pod": "100000 100000"}, 1),
        (V2, {"pod__box": "100000 100000", "pod": "200000 100000"}, 1),
        (V2, {"pod__box": "max 100000", "pod": "max 100000"}, 8),
        (V2, {"pod__box": "max 100000", "pod": "150000 100000"}, 2),
        (V2, {"ROOT": "300000 100000"}, 3),  # a container that sees its own group at the root
        ("0::/\n", {"ROOT": "250000 100000"}, 3),
        (V2, {"pod__box": "1000 100000"}, 1),
        (V2, {"pod__box": "700000 100000"}, 7),
        (V2, {"pod__box": "700001 100000"}, 8),
        (V2, {"pod__box": "900000 100000"}, 8),  # more than there are
        # The end of the path is seen, its beginning is the host's.
        ("0::/docker/id/job\n", {"job": "100000 100000", "ROOT": "400000 100000"}, 1),
        ("0::/../other/job\n", {"job": "100000 100000", "ROOT": "400000 100000"}, 4),
        # Version 1, and both.
        (V1, {"cpu__pod__box": "200000 100000", "cpu__pod": "100000 100000"}, 1),
        (V1, {"cpu__pod__box": "-1 100000", "cpu__pod": "250000 50000"}, 5),
        (V1, {"cpu__pod__box": "-1 100000", "cpu__pod": "-1 100000"}, 8),
        (HYBRID, {"cpu,cpuacct__pod__box": "200000 100000"}, 2),
        (HYBRID, {"cpu,cpuacct__pod__box": "-1 100000", "unified__init": "300000 100000"}, 3),
        (HYBRID, {"cpu": "300000 100000", "cpu,cpuacct__pod__box": "400000 100000"}, 3),
        # Missing and unreadable.
        ("", {"ROOT": "100000 100000"}, 8),
        (V2, {}, 8),
        (V1, {"cpu__pod__box": "200000"}, 8),  # no period
        (V2, {"pod__box": "100000"}, 8),
        (V2, {"pod__box": "many 100000", "pod": "200000 100000"}, 2),
        (V2, {"pod__box": "", "pod": "100000 0"}, 8),
        (V2, {"pod__box": "-5 100000", "pod": "0 100000"}, 8),
        (V2, {"pod__box": "9" * 400 + " 1"}, 8),
        ("garbage\n\n:::\n0\n3:cpu\nx:cpu:y:z\n" + V2, {"pod__box": "200000 100000"}, 2),
        ("\udcff0::/pod\n", {"pod": "200000 100000"}, 8),
    ],
)
def test_the_quota_limits_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, groups: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    root, file = roots(tmp_path, "", **groups)
    file.write_bytes(own.encode(errors="surrogateescape"))
    found = cpus(root, file)
    assert found.number == expected
    assert found.limit.startswith(
        "the CPU quota of the cgroup, " if expected < 8 or "700001" in str(groups) else "the machine"
    )


def test_the_limit_that_decides_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for mask, quota, expected in (
        (range(64), "150000 100000", (2, "the CPU quota of the cgroup, 1.5 CPUs")),
        (range(4), "150000 100000", (2, "the CPU quota of the cgroup, 1.5 CPUs")),
        (range(4), "800000 100000", (4, "the CPU affinity, 4 of 64 CPUs")),
        (range(64), "max 100000", (64, "the machine's 64 CPUs")),
    ):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, mask=mask: set(mask))
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        assert cpus(*roots(folder, V2, pod__box=quota)) == expected
    assert cpus(tmp_path / "absent", tmp_path / "absent").limit == "the machine's 64 CPUs"
