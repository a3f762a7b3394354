import pytest

from pymosn.server.cgroups import Cpus
from pymosn.server.run_options import worker_count


@pytest.mark.parametrize(
    ("option", "gomaxprocs", "processor", "expected", "decided_by"),
    [
        (3, "5", 7, 3, "--workers"),
        (None, "5", 7, 5, "GOMAXPROCS"),
        (None, None, 7, 7, "the key `processor`"),
        (None, "many", 2.9, 2, "the key `processor`"),
        (None, "0", "6", 6, "the key `processor`"),
        (None, "1_0", "6", 6, "the key `processor`"),
        (None, None, "auto", 4, "the quota"),
        (None, None, 0, 4, "the quota"),
        (None, "-3", -1, 4, "the quota"),
        (None, "", float("inf"), 4, "the quota"),
    ],
)
def test_the_number_of_workers(
    option: int | None, gomaxprocs: str | None, processor: int | float | str, expected: int, decided_by: str
) -> None:
    assert worker_count(option, gomaxprocs, processor, Cpus(4, "the quota")) == (expected, decided_by, "")
