"""A worker's reports of its metrics, over a real channel."""

import asyncio
import socket

from pymosn.core.counters import Metrics
from pymosn.server.channel import Channel
from pymosn.server.messages import COMMANDS, REPORTS, Command, Report, Stats
from pymosn.server.stats_report import StatsReport


class Stage:
    """The metrics of a worker, and what its supervisor receives."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.received: list[Stats] = []
        self.metrics = Metrics()
        self._worker: Channel[Command] = Channel(loop, theirs, COMMANDS, lambda command, fds: None, lambda reason: None)
        self._supervisor: Channel[Report] = Channel(loop, ours, REPORTS, self._on_report, lambda reason: None)
        self.report = StatsReport(self.metrics, self._worker, 0.0)

    def _on_report(self, report: Report, descriptors: list[int]) -> None:
        assert isinstance(report, Stats)
        self.received.append(report)

    async def until(self, ticket: int) -> list[str]:
        """The groups that are reported until the ticket is answered."""
        async with asyncio.timeout(20):
            while not self.received or self.received[-1].ticket < ticket:
                await asyncio.sleep(0.001)
        found = [group["labels"][0][1] for stats in self.received for group in stats.groups]
        self.received.clear()
        return found

    def close(self) -> None:
        self._worker.close()
        self._supervisor.close()


def test_the_ticket_is_answered_by_the_last_message_of_a_report() -> None:
    async def scenario() -> None:
        stage = Stage()
        names = [str(number) for number in range(3000)]
        for name in names:
            stage.metrics.group("t", ("l", name)).counter("n").value += 1
        rounds = 0

        async def go_round() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        other = asyncio.ensure_future(go_round())
        await stage.report.send(1)
        assert rounds >= 3, "the event loop went on meanwhile"
        other.cancel()
        assert await stage.until(1) == names
        stage.metrics.group("t", ("l", "7")).counter("n").value += 1
        await stage.report.send(2)
        assert await stage.until(2) == ["7"]
        stage.close()

    asyncio.run(scenario())


def test_one_report_answers_several_tickets() -> None:
    async def scenario() -> None:
        stage = Stage()
        group = stage.metrics.group("t", ("l", "a"))
        first = asyncio.ensure_future(stage.report.send(1))
        await asyncio.gather(first, stage.report.send(2), stage.report.send(3))
        await stage.until(3)
        group.counter("n").value += 1
        assert not stage.report.is_busy
        await stage.report.send(4)
        assert await stage.until(4) == ["a"]
        stage.close()

    asyncio.run(scenario())
