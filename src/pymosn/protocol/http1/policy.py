"""How a listener treats what is not plainly right: strict by default, and what a lenient one forgives.

Each leniency is one that RFC 9110, 9112 or 3986 allows, and each can be read otherwise by a server behind us: docs/http1.md
says what is risked. Nothing that frames a body twice is ever forgiven.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: What becomes of an encoded slash (`%2F`) or backslash (`%5C`) in a path.
KEEP_SLASHES: Final[i64] = 0
DECODE_SLASHES: Final[i64] = 1
REFUSE_SLASHES: Final[i64] = 2

#: What becomes of a field whose name has an underscore. Look-alikes of fields that mean something to us never pass.
PASS_UNDERSCORES: Final[i64] = 0
DROP_UNDERSCORES: Final[i64] = 1
REFUSE_UNDERSCORES: Final[i64] = 2


class Http1Policy:
    """Immutable; shared by all connections of a listener.

    `is_strict`: forgive nothing. `trusts_peer`: believe X-Forwarded-*, X-Real-IP, Forwarded, x-mosn-* and x-envoy-* of
    whoever connects. `merges_slashes`: make one slash of a run of them. `slashes` and `underscores`: constants above.
    """

    def __init__(
        self,
        *,
        is_strict: bool,
        trusts_peer: bool,
        merges_slashes: bool,
        slashes: i64,
        underscores: i64,
    ) -> None:
        self.is_strict = is_strict
        self.trusts_peer = trusts_peer
        self.merges_slashes = merges_slashes
        self.slashes: i64 = slashes
        self.underscores: i64 = underscores


STRICT: Final = Http1Policy(
    is_strict=True, trusts_peer=False, merges_slashes=True, slashes=KEEP_SLASHES, underscores=PASS_UNDERSCORES
)
