"""The timer wheel against a sorted list, on a fake clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit import FakeClock

from pymosn.core.clock import Clock
from pymosn.core.timers import NEVER, RESOLUTION, SLOTS, TICKS, Alarm, TimerWheel


class Bell(Alarm):
    """Notes when it rang."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.rang: list[float] = []
        self._clock = clock

    def on_alarm(self) -> None:
        self.rang.append(self._clock.now)


delays = st.one_of(st.floats(0.0, 0.1), st.floats(0.0, 30.0), st.floats(0.0, 5000.0))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 4), delays),
        st.tuples(st.just("clear"), st.integers(0, 4), st.just(0.0)),
        st.tuples(
            st.just("pass"), st.just(0), st.one_of(st.floats(0.001, 0.05), st.floats(0.01, 40.0), st.floats(0.01, 9000.0))
        ),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(st.floats(0.0, 1e6), steps, st.booleans())
def test_never_early_and_at_most_two_ticks_late(
    start: float, script: list[tuple[str, int, float]], follows_wake: bool
) -> None:
    """The wheel is advanced when it asks for it, or after each step of the script."""
    clock = FakeClock(start)
    wakes: list[float] = []
    wheel = TimerWheel(clock, wakes.append)
    bells = [Bell(clock) for _ in range(5)]
    deadlines: dict[int, float] = {}

    def advance() -> None:
        wakes.clear()
        wheel.advance()
        for place, bell in enumerate(bells):
            if bell.rang:
                assert deadlines.pop(place) <= clock.now, "early"
                assert bell.rang == [clock.now]
                bell.rang.clear()

    for what, number, seconds in script:
        if what == "set":
            wheel.set(bells[number], seconds)
            deadlines[number] = clock.now + seconds
        elif what == "clear":
            wheel.clear(bells[number])
            deadlines.pop(number, None)
        elif follows_wake:
            end = clock.now + seconds
            while wakes and wakes[-1] <= end:
                clock.now = max(clock.now, wakes[-1])
                advance()
            clock.now = end
        else:
            clock.now += seconds
            advance()
        assert all(deadline > clock.now - 2 * RESOLUTION - 1e-6 for deadline in deadlines.values()), "late"
        assert len(wheel) == len(deadlines)
        assert all((bell.alarm_deadline < NEVER) == (place in deadlines) for place, bell in enumerate(bells))


def test_wakes_only_for_alarms() -> None:
    """Nothing polls: an empty wheel asks for nothing, and an idle timeout of a minute for one call a round."""
    clock = FakeClock()
    wakes: list[float] = []
    wheel = TimerWheel(clock, wakes.append)
    wheel.advance()
    assert wakes == []
    bell = Bell(clock)
    for _ in range(1000):
        wheel.set(bell, 60.0)  # moved further away by each request
        clock.now += 0.001
    calls = 0
    while not bell.rang:
        clock.now = wakes[-1]
        wheel.advance()
        calls += 1
    assert calls <= 5
    wakes.clear()
    wheel.advance()
    assert wakes == []


def test_wakes_earlier_for_an_earlier_alarm_only() -> None:
    clock = FakeClock(10.0)
    wakes: list[float] = []
    wheel = TimerWheel(clock, wakes.append)
    for delay in (0.010, 0.020, 5.0, 0.010):
        wheel.set(Bell(clock), delay)
    assert wakes == [pytest.approx(10.010, abs=2 * RESOLUTION)]
    wheel.set(Bell(clock), 0.005)
    assert wakes[1:] == [pytest.approx(10.005, abs=2 * RESOLUTION)]


def test_long_stop_rings_everything_once() -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)
    bells = [Bell(clock) for _ in range(2000)]
    for place, bell in enumerate(bells):
        wheel.set(bell, place * 0.05)
    clock.now += 1e6
    wheel.advance()
    assert all(len(bell.rang) == 1 for bell in bells)
    assert len(wheel) == 0


def test_alarm_may_set_itself_and_clear_others() -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)
    other = Bell(clock)

    class Again(Bell):
        def on_alarm(self) -> None:
            super().on_alarm()
            wheel.set(self, 1.0)
            wheel.clear(other)

    again = Again(clock)
    wheel.set(other, 1.001)
    wheel.set(again, 1.0)
    for _ in range(400):
        clock.now += 0.02
        wheel.advance()
    assert len(again.rang) == 7
    assert other.rang == []
    assert len(wheel) == 1


class Broken(Bell):
    """Rings and fails."""

    def on_alarm(self) -> None:
        super().on_alarm()
        raise ValueError("broken")


def test_an_alarm_that_fails_delays_no_other() -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)
    bells = [Bell(clock), Broken(clock), Bell(clock)]
    later = Bell(clock)
    for bell in bells:
        wheel.set(bell, 0.05)
    wheel.set(later, 0.15)
    clock.now += 0.2
    with pytest.raises(ValueError, match="broken"):
        wheel.advance()
    assert [len(bell.rang) for bell in (*bells, later)] == [1, 1, 1, 1]
    assert len(wheel) == 0
    wheel.advance()


def test_all_failures_of_alarms_are_reported() -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)
    for _ in range(2):
        wheel.set(Broken(clock), 0.05)
    clock.now += 0.2
    with pytest.raises(ExceptionGroup) as raised:
        wheel.advance()
    assert [str(error) for error in raised.value.exceptions] == ["broken", "broken"]


def test_alarm_set_to_now_from_an_alarm_does_not_ring_forever() -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)

    class Eager(Bell):
        def on_alarm(self) -> None:
            super().on_alarm()
            wheel.set(self, 0.0)

    eager = Eager(clock)
    wheel.set(eager, 0.0)
    clock.now += 0.05
    wheel.advance()
    wheel.advance()
    assert len(eager.rang) == 1


@pytest.mark.parametrize("round_trips", [0.5, 1, 1.5, 7])
def test_deadlines_beyond_one_round(round_trips: float) -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)
    bell = Bell(clock)
    delay = round_trips * int(SLOTS * TICKS) * RESOLUTION
    wheel.set(bell, delay)
    start = clock.now
    while not bell.rang:
        clock.now += 0.01
        wheel.advance()
        assert clock.now - start < delay + 1
    assert delay <= bell.rang[0] - start <= delay + 0.01 + 2 * RESOLUTION


def test_moving_a_deadline_nearer() -> None:
    clock = FakeClock()
    wheel = TimerWheel(clock)
    bell = Bell(clock)
    wheel.set(bell, 100.0)
    wheel.set(bell, 0.1)
    clock.now += 0.2
    wheel.advance()
    assert len(bell.rang) == 1
    clock.now += 200.0
    wheel.advance()
    assert len(bell.rang) == 1
