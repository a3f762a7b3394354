"""Samples are taken while someone watches, once for all, and bounded in every way."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.unit.control.live.live_plane import LivePlane, Time, sampler_of, until

from pymosn.control.live import sampler as module
from pymosn.control.live.processes import Process, process_of
from pymosn.control.live.sampler import ATTENTION, CATCH_UP, MAX_WATCHERS, POINTS, REST, Sampler, TooManyWatchersError


def test_nothing_is_asked_until_someone_watches_and_one_sample_serves_all() -> None:
    async def run() -> None:
        plane, time = LivePlane(), Time()
        stats = plane.listener()
        sampler = sampler_of(plane, time)
        await asyncio.sleep(0)
        assert plane.asked == 0
        one, other = sampler.join(), sampler.join()
        await until(lambda: plane.asked == 1)
        await until(lambda: bool(time.pauses))
        stats.request_total.value = 20
        await time.pass_(2.0, lambda: len(sampler.history(None, 9)) == 1)
        (point,) = await sampler.next_points(one, 1.0)
        assert point["requests"] == 10.0
        assert [p["number"] for p in await sampler.next_points(other, 1.0)] == [point["number"]]
        assert plane.asked == 2
        sampler.leave(one)
        sampler.leave(other)
        asked = plane.asked
        await until(lambda: len(time.pauses) == 2)
        await time.pass_(5.0, lambda: not sampler._is_running())
        assert plane.asked == asked
        assert sampler.rates(("downstream", (("listener", "clientListener"),))) is None, "large data is dropped"
        sampler.close()

    asyncio.run(run())


def test_a_request_for_a_table_counts_as_watching_for_some_seconds() -> None:
    async def run() -> None:
        plane, time = LivePlane(), Time()
        sampler = sampler_of(plane, time)
        sample = await sampler.current()
        assert await sampler.current() is sample
        assert plane.asked == 1
        await until(lambda: bool(time.pauses))
        assert plane.asked == 1, "the sample that was just taken is used"
        for taken in range(2, 6):
            await time.pass_(1.0, lambda taken=taken: plane.asked == taken and len(time.pauses) == taken)  # type: ignore[misc]
        await time.pass_(ATTENTION, lambda: not sampler._is_running())
        sampler.close()

    asyncio.run(run())


def test_rows_have_rates_over_about_ten_seconds() -> None:
    async def run() -> None:
        plane, time = LivePlane(), Time()
        stats = plane.host("10.0.0.1:80")
        sampler = sampler_of(plane, time)
        watcher = sampler.join()
        key = ("upstream", (("cluster", "c"), ("host", "10.0.0.1:80")))
        await until(lambda: len(time.pauses) == 1)
        assert sampler.rates(key) is None
        for taken in range(2, 31):
            stats.request_total.value += 4
            await time.pass_(1.0, lambda taken=taken: len(time.pauses) == taken)  # type: ignore[misc]
        rates = sampler.rates(key)
        assert rates is not None
        assert rates.requests == pytest.approx(4.0)
        base = sampler._bases[0][0]
        assert 8.0 <= time.now - base <= 15.0
        assert sampler.rates(("upstream", (("cluster", "other"),))) is None
        sampler.leave(watcher)
        sampler.close()

    asyncio.run(run())


def test_the_points_are_limited_and_a_slow_watcher_gets_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS", 8)

    async def run() -> None:
        plane, time = LivePlane(), Time()
        sampler = sampler_of(plane, time)
        watcher = sampler.join()
        await until(lambda: len(time.pauses) == 1)
        for taken in range(2, 22):
            await time.pass_(1.0, lambda taken=taken: len(time.pauses) == taken)  # type: ignore[misc]
        found = await sampler.next_points(watcher, 1.0)
        assert [point["number"] for point in found] == list(range(22 - CATCH_UP, 22))
        assert len(sampler.history(None, 999)) <= 9
        assert [point["number"] for point in sampler.history(None, 2)] == [20, 21]
        assert sampler.history(None, 0) == []
        assert await sampler.next_points(watcher, 0.001) == [], "a heartbeat is due"
        sampler.close()
        assert await sampler.next_points(watcher, 10.0) == []

    asyncio.run(run())
    assert POINTS == 300


def test_the_number_of_streams_is_limited() -> None:
    async def run() -> None:
        sampler = sampler_of(LivePlane(), Time())
        watchers = [sampler.join() for _ in range(MAX_WATCHERS)]
        with pytest.raises(TooManyWatchersError):
            sampler.join()
        sampler.leave(watchers[0])
        sampler.join()
        sampler.close()
        with pytest.raises(TooManyWatchersError):
            sampler.join()

    asyncio.run(run())


def test_expensive_samples_are_rarer() -> None:
    async def run() -> None:
        plane, time = LivePlane(), Time()
        sampler = sampler_of(plane, time)

        async def slow() -> list[object]:
            plane.asked += 1
            time.now += 0.7
            return []

        plane.stats = slow  # type: ignore[method-assign,assignment]
        sampler.join()
        await until(lambda: len(time.pauses) == 1)
        assert time.pauses == [pytest.approx(0.7 * REST)]
        sampler.close()

    asyncio.run(run())


def test_a_failure_is_logged_once_and_tried_again() -> None:
    lines: list[str] = []

    class Lines(module.Log):
        def write(self, level: int, text: str, alert: str = "") -> None:
            lines.append(text)

    async def run() -> None:
        plane, time = LivePlane(), Time()
        plane.broken = True
        sampler = Sampler(plane, Lines(), time.monotonic, time.wall, time.sleep)
        sampler.join()
        await until(lambda: len(time.pauses) == 1)
        await time.pass_(1.0, lambda: len(time.pauses) == 2)
        assert plane.asked == 2
        plane.broken = False
        await time.pass_(1.0, lambda: sampler._sample is not None)
        sampler.close()

    asyncio.run(run())
    assert len(lines) == 1
    assert "workers do not answer" in lines[0]


def test_memory_and_cpu_of_a_process(tmp_path: Path) -> None:
    found = process_of(os.getpid(), 10.0, None)
    assert found is not None
    assert found.memory > 1_000_000
    assert found.share is None
    (tmp_path / "7").mkdir()
    fields = ["S", *["0"] * 10, "150", "50", *["0"] * 4, "3", "0", "0", "0", "25", *["0"] * 10]
    (tmp_path / "7" / "stat").write_text(f"7 (a name ) with 1) {' '.join(fields)}")
    second = process_of(7, 12.0, Process(0, 1.0, 1, 10.0, None), tmp_path)
    assert second is not None
    assert (second.threads, second.cpu, second.share) == (3, 2.0, pytest.approx(0.5))
    assert process_of(8, 12.0, None, tmp_path) is None
    (tmp_path / "7" / "stat").write_text("7 (x) S 1 2")
    assert process_of(7, 12.0, None, tmp_path) is None
