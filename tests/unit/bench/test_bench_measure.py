"""CPU and memory, read from a made-up /proc."""

import os
from pathlib import Path

import pytest
from bench.measure import Cpu, children, command_line, read_cpu, read_memory, stolen_seconds

TICK = os.sysconf("SC_CLK_TCK")


def stat_line(pid: int, name: str, parent: int, user: int = 0, system: int = 0) -> str:
    return f"{pid} ({name}) S {parent} 1 1 0 -1 4194304 9 9 9 9 {user} {system} 0 0 20 0 1 0 100\n"


def add_process(proc: Path, pid: int, stat: str, thread_nanoseconds: list[int]) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(stat)
    (folder / "cmdline").write_bytes(b"python\0-m\0pymosn.server.worker\0")
    for i, nanoseconds in enumerate(thread_nanoseconds):
        thread = folder / "task" / str(pid + i)
        thread.mkdir(parents=True)
        (thread / "schedstat").write_text(f"{nanoseconds} 12 3\n")


def test_cpu_adds_up_threads_and_processes(tmp_path: Path) -> None:
    add_process(tmp_path, 10, stat_line(10, "envoy", 1, 3 * TICK, TICK), [1_500_000_000, 500_000_000])
    add_process(tmp_path, 20, stat_line(20, "helper", 10, 0, TICK), [1_000_000_000])
    assert read_cpu([10, 20], tmp_path) == Cpu(total=3.0, user=3.0, system=2.0)


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields(tmp_path: Path) -> None:
    add_process(tmp_path, 10, stat_line(10, "a) b (c", 7, 2 * TICK, 0), [0])
    assert read_cpu([10], tmp_path).user == 2.0
    assert children(7, tmp_path) == [10]


def test_user_and_system_are_scaled_to_the_schedulers_total() -> None:
    spent = Cpu(5.0, 2.0, 4.0).since(Cpu(2.0, 1.0, 1.0))
    assert (spent.total, spent.user, spent.system) == pytest.approx((3.0, 0.75, 2.25))


def test_a_short_interval_without_a_tick_is_accepted() -> None:
    assert Cpu(1.001, 1.0, 1.0).since(Cpu(1.0, 1.0, 1.0)).total == pytest.approx(0.001)


def test_children_are_the_direct_ones_only(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("")
    for pid, parent in ((5, 1), (7, 5), (6, 5), (8, 7)):
        add_process(tmp_path, pid, stat_line(pid, "p", parent), [])
    assert children(5, tmp_path) == [6, 7]


def test_a_command_line_reads_as_words(tmp_path: Path) -> None:
    add_process(tmp_path, 5, stat_line(5, "p", 1), [])
    assert command_line(5, tmp_path) == "python -m pymosn.server.worker"
    assert command_line(6, tmp_path) == ""


def test_memory_comes_from_the_rollup(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "smaps_rollup").write_text("5000-7fff ---p 0 00:00 0 [rollup]\nRss:   200 kB\nPss:  150 kB\n")
    memory = read_memory(5, tmp_path)
    assert (memory.rss, memory.pss) == (200 * 1024, 150 * 1024)


def test_stolen_time_is_that_of_one_core(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(
        f"cpu 1 1 1 1 1 1 1 {9 * TICK} 0 0\ncpu0 1 1 1 1 1 1 1 {2 * TICK} 0 0\ncpu1 1 1 1 1 1 1 1 {7 * TICK} 0 0\n"
    )
    assert stolen_seconds(0, tmp_path) == 2.0


def test_the_real_proc_is_understood() -> None:
    own = os.getpid()
    assert read_cpu([own]).total > 0
    assert 0 < read_memory(own).pss <= read_memory(own).rss
    assert own in children(os.getppid())
