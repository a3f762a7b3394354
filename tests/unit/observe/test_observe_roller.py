import gzip
import os
import time
from pathlib import Path

import pytest

from pymosn.observe.roller import DAY, HOUR, Policy, Roller, parse_roller

MEGABYTE = 1024 * 1024


def moment(day: int, hour: int = 0, minute: int = 0) -> float:
    return time.mktime((2026, 3, day, hour, minute, 0, 0, 0, -1))


def put(path: Path, text: str, written: float) -> Path:
    path.write_text(text)
    os.utime(path, (written, written))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Policy(hours=24)),
        ("time=1", Policy(hours=1)),
        ("time=24 size=3 keep=1", Policy(hours=24)),
        ("size=100", Policy(0, 100 * MEGABYTE, 7, 10)),
        ("keep=3 compress=on", Policy(0, 1000 * MEGABYTE, 7, 3, True)),
        ("time=25", Policy(hours=24)),
        ("time=0", Policy(0, 1000 * MEGABYTE, 7, 10)),
        ("size=0 keep=-1 age=0", Policy(0, 100 * MEGABYTE)),
        ("size=1 size=+2", Policy(0, 2 * MEGABYTE, 7, 10)),
        ("size=x compress=maybe keep=3", Policy(0, 1000 * MEGABYTE, 7, 3)),
        ("size=5  age=2 keep=4 compress=off", Policy(0, 5 * MEGABYTE, 2, 4)),
    ],
)
def test_policies(text: str, policy: Policy) -> None:
    assert parse_roller(text) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size=10MB", "size must be an integer, got '10MB'"),
        ("keep=1 size=", "size must be an integer, got ''"),
        ("size=1000000000000", "size must be an integer"),
        ("sise=1", "invalid item 'sise=1'"),
        ("size", "invalid item 'size'"),
        ("compress=yes", "compress must be on or off, got 'yes'"),
    ],
)
def test_bad_policies(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_roller(text)


@pytest.mark.parametrize(
    ("policy", "size", "begun", "now", "due"),
    [
        (Policy(hours=24), 1, moment(4, 23, 59), moment(5), True),
        (Policy(hours=24), 1, moment(4, 0), moment(4, 23, 59), False),
        (Policy(hours=24), 0, moment(4), moment(9), False),
        (Policy(hours=6), 1, moment(4, 5, 59), moment(4, 6), True),
        (Policy(hours=6), 1, moment(4, 6), moment(4, 11, 59), False),
        (Policy(size=10), 10, 0.0, 0.0, False),
        (Policy(size=10), 11, 0.0, 0.0, True),
    ],
)
def test_when_it_is_time(policy: Policy, size: int, begun: float, now: float, due: bool) -> None:
    assert policy.is_due(size, begun, now) is due


def test_a_new_day_sets_the_file_aside_under_the_old_days_name(tmp_path: Path) -> None:
    log = put(tmp_path / "mosn.log", "monday\n", moment(2, 18))
    roller = Roller(str(log), parse_roller(""), moment(2, 18))
    assert not roller.roll_if_due(moment(2, 23, 59))
    assert roller.roll_if_due(moment(3, 0, 1))
    assert names(tmp_path) == ["mosn.log.2026-03-02"]
    assert not roller.roll_if_due(moment(3, 0, 2))
    put(log, "tuesday\n", moment(3, 1))
    assert not roller.roll_if_due(moment(3, 2))
    assert roller.roll_if_due(moment(4))
    assert names(tmp_path) == ["mosn.log.2026-03-02", "mosn.log.2026-03-03"]


def test_a_file_that_an_earlier_process_wrote_yesterday_is_rotated_at_once(tmp_path: Path) -> None:
    log = put(tmp_path / "mosn.log", "yesterday\n", moment(2, 18))
    assert Roller(str(log), parse_roller("time=24"), moment(3, 9)).roll_if_due(moment(3, 9))
    assert names(tmp_path) == ["mosn.log.2026-03-02"]


def test_hours_and_taken_names(tmp_path: Path) -> None:
    put(tmp_path / "a.log.2026-03-02_10", "", moment(2))
    put(tmp_path / "a.log.2026-03-02_10.1.gz", "", moment(2))
    log = put(tmp_path / "a.log", "x", moment(2, 10, 5))
    assert Roller(str(log), parse_roller("time=1"), moment(2, 10, 5)).roll_if_due(moment(2, 11))
    assert (tmp_path / "a.log.2026-03-02_10.2").read_text() == "x"


def test_size_age_and_number(tmp_path: Path) -> None:
    log = put(tmp_path / "a.log", "x" * 11, moment(10))
    old = [put(tmp_path / f"a.log.2026-03-0{day}_00", "", moment(day)) for day in range(1, 10)]
    bystander = put(tmp_path / "a.log.2026-03-01_00.bak", "", moment(1))
    roller = Roller(str(log), Policy(size=10, age=5, keep=3), moment(10))
    assert roller.roll_if_due(moment(10, 1))
    roller.tidy(moment(10, 1))
    assert names(tmp_path) == [bystander.name, old[7].name, old[8].name, "a.log.2026-03-10_00"]
    roller.tidy(moment(10) + 5 * DAY + HOUR)
    assert names(tmp_path) == [bystander.name]


def test_compression_keeps_content_and_time(tmp_path: Path) -> None:
    old = put(tmp_path / "a.log.2026-03-01_00", "line\n" * 1000, moment(1))
    Roller(str(tmp_path / "a.log"), Policy(size=10, compress=True), moment(2)).tidy(moment(2))
    (packed,) = tmp_path.iterdir()
    assert packed.name == old.name + ".gz"
    assert gzip.decompress(packed.read_bytes()) == b"line\n" * 1000
    assert packed.stat().st_mtime == moment(1)


def test_a_file_that_is_not_there_is_never_due(tmp_path: Path) -> None:
    assert not Roller(str(tmp_path / "none.log"), parse_roller(""), moment(1)).roll_if_due(moment(9))
