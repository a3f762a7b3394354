"""What the interpreted pass of `make test` leaves to the compiled one, which comes after it.

Both hold every rule. Of large tables and of random inputs the first one takes a share, because it is not expected to find
what the other does not. The mark `sampled(N)` takes one of N tests of a parametrized function.
"""

import os
from typing import Final

IS_FIRST_PASS: Final = os.environ.get("PYMOSN_ONCE") == "later"
#: Beginnings of paths of tests for the second pass only: of layers that are interpreted in both builds, and of no build.
SECOND_PASS_ONLY: Final = (
    *("unit/config/", "unit/control/", "unit/kit/", "unit/server/", "unit/testing/"),
    *("unit/test_layers.py", "unit/test_words.py", "unit/test_foreign_errors.py"),
    *("golden/test_mosn_table.py", "fuzz/test_fuzz_admin.py", "fuzz/test_fuzz_xds", "system/test_xds_"),
)

#: Beginnings of paths of large tables, of which the first pass takes one test of so many of each function.
SHARES: Final = {
    "conversations/test_conversation_paths.py": 4,
    "conversations/test_conversation_uris.py": 4,
    "golden/test_golden_routes.py": 4,
    "hostile/test_hostile_codec.py": 4,
    "hostile/test_hostile_h2.py": 8,
    "system/test_guards.py": 4,
    "system/test_several_values.py": 4,
    "system/test_websocket.py": 5,
}


def one_of(number: int) -> int:
    """A step through a table: `number` if the other members come up in the second pass, or else 1."""
    return number if IS_FIRST_PASS else 1
