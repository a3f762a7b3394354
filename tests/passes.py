"""What the interpreted pass of `make test` leaves to the compiled one, which comes after it.

Both hold every rule. Of large tables and of random inputs the first one takes a share, because it is not expected to find
what the other does not. The mark `sampled(N)` takes one of N tests of a parametrized function.
"""

import os
from typing import Final

IS_FIRST_PASS: Final = os.environ.get("PYMOSN_ONCE") == "later"
#: Beginnings of paths of tests for the second pass only: of the control plane, which is interpreted in both builds.
SECOND_PASS_ONLY: Final = ("unit/control/", "system/test_xds_")


def one_of(number: int) -> int:
    """A step through a table: `number` if the other members come up in the second pass, or else 1."""
    return number if IS_FIRST_PASS else 1
