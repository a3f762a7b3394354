import pytest

from pymosn.server.run_options import worker_count


@pytest.mark.parametrize(
    ("option", "gomaxprocs", "processor", "expected"),
    [
        (3, "5", 7, 3),
        (None, "5", 7, 5),
        (None, None, 7, 7),
        (None, "many", 2.9, 2),
        (None, "0", "6", 6),
        (None, "1_0", "6", 6),
        (None, None, "auto", 4),
        (None, None, 0, 4),
        (None, None, -1, 4),
        (None, None, float("inf"), 4),
    ],
)
def test_the_number_of_workers(
    option: int | None, gomaxprocs: str | None, processor: int | float | str, expected: int
) -> None:
    assert worker_count(option, gomaxprocs, processor, cpus=4) == expected
