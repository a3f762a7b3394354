"""How tolerant a listener is of irregular requests: strict by default.

Each leniency is allowed by RFC 9110, 9112 or 3986, but upstream servers may interpret such a request differently;
docs/http1.md describes the risks. Ambiguous body framing is never tolerated.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: How an encoded slash (`%2F`) or backslash (`%5C`) in a path is treated.
KEEP_SLASHES: Final[i64] = 0
DECODE_SLASHES: Final[i64] = 1
REFUSE_SLASHES: Final[i64] = 2

#: How a field name with an underscore is treated. Look-alikes of the fields in `fields.py` are never forwarded.
PASS_UNDERSCORES: Final[i64] = 0
DROP_UNDERSCORES: Final[i64] = 1
REFUSE_UNDERSCORES: Final[i64] = 2


class Http1Policy:
    """Immutable; shared by all connections of a listener.

    `is_strict`: tolerate nothing. `trusts_peer`: trust X-Forwarded-*, X-Real-IP, Forwarded, x-mosn-* and x-envoy-* from any
    client. `merges_slashes`: merge repeated slashes. `slashes` and `underscores`: constants above.
    """

    def __init__(
        self,
        is_strict: bool = True,
        trusts_peer: bool = False,
        merges_slashes: bool = True,
        slashes: i64 = KEEP_SLASHES,
        underscores: i64 = PASS_UNDERSCORES,
    ) -> None:
        self.is_strict = is_strict
        self.trusts_peer = trusts_peer
        self.merges_slashes = merges_slashes
        self.slashes: i64 = slashes
        self.underscores: i64 = underscores


STRICT: Final = Http1Policy()
