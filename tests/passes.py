"""What the interpreted pass of `make test` leaves to the compiled one, which comes after it.

Both hold every rule. Of large tables and of random inputs the first one takes a share, because it is not expected to find
what the other does not. The mark `sampled(N)` takes one of N tests of a parametrized function.

Of tables whose members each start the real program, the second pass takes a share, too: `make tables` runs all of them.
"""

import os
from typing import Final

IS_FIRST_PASS: Final = os.environ.get("PYMOSN_ONCE") == "later"
IS_SECOND_PASS: Final = os.environ.get("PYMOSN_ONCE") == "now"
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

#: The same for the second pass.
SECOND_SHARES: Final = {
    "hostile/test_hostile_h2.py": 2,
    "hostile/test_hostile_tls.py": 3,
    "system/test_children.py": 3,
    "system/test_files.py": 2,
    "system/test_filter_sources.py": 2,
    "system/test_guards.py": 2,
    "system/test_mosn_command_line.py": 3,
    "system/test_proxy_protocol.py": 2,
    "system/test_several_values.py": 3,
    "system/test_standard_streams.py": 3,
    "system/test_tls_client_table.py": 3,
    "system/test_tls_openssl.py": 3,
    "system/test_tls_upstream.py": 2,
    "system/test_websocket.py": 3,
    "system/test_websocket_tls.py": 3,
}


def one_of(number: int) -> int:
    """A step through a table: `number` if the other members come up in the second pass, or else 1."""
    return number if IS_FIRST_PASS else 1
