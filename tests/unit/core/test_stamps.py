"""Ids and times that a worker gives its exchanges."""

from tests.kit.fakes import FakeClock

from pymosn.core.log import LINE_PERIOD, LineLimit
from pymosn.core.stamps import FIRST_TRACE, IDS_PER_WORKER, LAST_TRACE, Stamps
from pymosn.network.listener import ConnectionIds


def test_trace_ids_have_the_machine_the_time_a_counter_and_the_process() -> None:
    stamps = Stamps(FakeClock(wall_time=1234567890.25), machine="c0000202", process="77")
    assert stamps.trace_id() == "c0000202" + "1234567890250" + "1000" + "77"
    assert stamps.trace_id() == "c0000202" + "1234567890250" + "1001" + "77"


def test_the_counter_of_trace_ids_keeps_its_four_digits() -> None:
    stamps = Stamps(FakeClock(wall_time=1.0))
    found = [stamps.trace_id() for _ in range(int(LAST_TRACE - FIRST_TRACE))]
    assert len(set(found)) == len(found)
    assert stamps.trace_id() == found[0]
    assert {len(each) for each in found} == {len(found[0])}


def test_numbers_of_two_workers_have_nothing_in_common() -> None:
    ids = [ConnectionIds(incarnation) for incarnation in range(3)]
    assert [each.next() for each in ids] == [1, IDS_PER_WORKER + 1, 2 * IDS_PER_WORKER + 1]
    stamps = [Stamps(FakeClock(), incarnation) for incarnation in range(3)]
    assert [each.stream_id() for each in stamps] == ["1", "1000000000001", "2000000000001"]


def test_a_line_in_a_second_passes_and_says_how_many_did_not() -> None:
    limit = LineLimit()
    assert [limit.passes(now) for now in (5.0, 5.1, 5.0 + LINE_PERIOD / 2)] == [True, False, False]
    assert limit.passes(5.0 + LINE_PERIOD)
    assert limit.note() == " (2 more like it before)"
    assert limit.note() == ""
