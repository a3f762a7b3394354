"""Log lines about certificates that expire, with a clock of the test's own."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.kit import FakeClock, Lines
from tests.kit import certificates as made

from pymosn.config.schema import MosnConfig
from pymosn.control.certificates import Used, certificates_in
from pymosn.control.expiry import LONGEST_PAUSE, MAX_LINES, Expiry

DAY = 86_400.0
(SERVER,) = certificates_in(made.server().certificate)
END = SERVER.not_after


class Watch:
    """The service at a time before the end of a certificate."""

    def __init__(self, days_left: float, count: int = 1) -> None:
        self.clock = FakeClock()
        self.log = Lines()
        self.used = [
            Used(SERVER._replace(fingerprint=str(number)), "/tls.pem", ["listener a: cert_chain"]) for number in range(count)
        ]
        self.expiry = Expiry(lambda: self.used, self.clock, self.log)
        self.pause = 0.0
        self.at(days_left)

    def at(self, days_left: float) -> None:
        self.clock.wall_time = END - days_left * DAY

    def look(self) -> list[str]:
        before = len(self.log.lines)
        self.pause = self.expiry.report(self.used)
        return self.log.lines[before:]


def test_one_line_at_each_of_four_times() -> None:
    watch = Watch(31)
    assert watch.look() == []
    seen = []
    for hours in range(31 * 24, -48, -1):
        watch.at(hours / 24)
        seen += [(hours / 24, line.partition(" (")[0].rpartition(", on")[0] or line) for line in watch.look()]
    assert [days for days, _ in seen] == [30, 7, 1, 0]
    assert seen[0][1] == "the certificate 'server.test' expires in 30.0 days"
    assert "has expired on" in seen[3][1]
    assert "/tls.pem; listener a: cert_chain" in watch.log.lines[0]


def test_a_late_start_logs_the_nearest_line_only() -> None:
    watch = Watch(5)
    assert len(watch.look()) == 1
    assert watch.look() == []
    watch.at(0.5)
    assert len(watch.look()) == 1


def test_what_has_expired_before_it_is_seen_is_reported_by_its_reader() -> None:
    watch = Watch(-1)
    assert watch.look() == []


@pytest.mark.parametrize(
    ("days_left", "pause"), [(90, LONGEST_PAUSE), (30.01, 0.01 * DAY), (0.01, 0.01 * DAY), (-3, LONGEST_PAUSE)]
)
def test_it_looks_again_at_the_next_time(days_left: float, pause: float) -> None:
    watch = Watch(days_left)
    watch.look()
    assert watch.pause == pytest.approx(pause)


def test_a_new_certificate_is_another_one_and_an_old_one_is_forgotten() -> None:
    watch = Watch(5)
    assert len(watch.look()) == 1
    old, watch.used = watch.used, [watch.used[0]._replace(certificate=SERVER._replace(fingerprint="other"))]
    assert len(watch.look()) == 1
    watch.used = old
    assert len(watch.look()) == 1


def test_many_certificates_are_few_lines() -> None:
    lines = Watch(5, MAX_LINES + 7).look()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "7 more certificates expire soon: see /api/v1/certs"


def test_the_service_looks_after_each_change_and_each_pause() -> None:
    async def scenario() -> None:
        watch = Watch(40)
        looks: list[float] = []
        go_on = asyncio.Event()

        async def sleep(seconds: float) -> None:
            looks.append(seconds)
            await go_on.wait()
            go_on.clear()

        expiry = Expiry(lambda: watch.used, watch.clock, watch.log, sleep)
        expiry.follow(MosnConfig())
        await _until(lambda: len(looks) == 1)
        watch.at(6)
        go_on.set()
        await _until(lambda: len(looks) == 2)
        assert len(watch.log.lines) == 1
        watch.used = [watch.used[0]._replace(certificate=SERVER._replace(fingerprint="new"))]
        expiry.follow(MosnConfig())
        await _until(lambda: len(looks) == 3)
        assert len(watch.log.lines) == 2
        await expiry.stop()

    asyncio.run(scenario())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def test_an_error_is_logged_and_does_not_end_it() -> None:
    async def scenario() -> None:
        watch = Watch(40)
        pauses: list[float] = []
        again = asyncio.Event()

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                again.set()
            if len(pauses) > 1:
                await asyncio.Event().wait()

        def broken() -> list[Used]:
            raise RuntimeError("no list")

        expiry = Expiry(broken, watch.clock, watch.log, sleep)
        expiry.follow(MosnConfig())
        async with asyncio.timeout(10):
            await again.wait()
        assert all("no list" in text for text in watch.log.lines)
        await expiry.stop()

    asyncio.run(scenario())


def test_the_end_of_a_real_certificate() -> None:
    issued = made.issue("soon", None, ends=timedelta(days=3))
    (certificate,) = certificates_in(issued.certificate)
    log = Lines()
    clock = FakeClock()
    clock.wall_time = issued.x509.not_valid_after_utc.timestamp() - 2.9 * DAY
    Expiry(list, clock, log).report([Used(certificate, "", ["cluster b: ca_cert"])])
    (text,) = log.lines
    assert "'soon' expires in 2.9 days" in text
    assert "in the configuration; cluster b: ca_cert" in text
