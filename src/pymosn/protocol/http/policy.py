"""How tolerant a listener is of irregular requests: strict by default.

Each leniency is allowed by RFC 9110, 9112 or 3986, but upstream servers may interpret such a request differently;
docs/http1.md describes the risks. Ambiguous body framing is never tolerated. The same holds for the responses of upstream
servers (`upstream_profile` of a cluster), of which only `is_strict` is used.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.uri import KEEP_SLASHES, PathPolicy

#: What to do with a field whose name has an underscore. Look-alikes of fields that the proxy interprets never pass.
PASS_UNDERSCORES: Final[i64] = 0
DROP_UNDERSCORES: Final[i64] = 1
REFUSE_UNDERSCORES: Final[i64] = 2


class HttpPolicy(PathPolicy):
    """Immutable; shared by all connections of a listener.

    `is_strict`: tolerate nothing. `trusts_peer`: trust X-Forwarded-*, X-Real-IP, Forwarded, x-mosn-* and x-envoy-* from any
    client. `merges_slashes` and `slashes`: see PathPolicy. `underscores`: a constant above.
    """

    def __init__(self, *, is_strict: bool, trusts_peer: bool, merges_slashes: bool, slashes: i64, underscores: i64) -> None:
        super().__init__(is_strict, merges_slashes, slashes)
        self.trusts_peer = trusts_peer
        self.underscores: i64 = underscores


STRICT: Final = HttpPolicy(
    is_strict=True, trusts_peer=False, merges_slashes=True, slashes=KEEP_SLASHES, underscores=PASS_UNDERSCORES
)

#: For responses of upstream servers whose cluster tolerates harmless faults.
COMPATIBLE: Final = HttpPolicy(
    is_strict=False, trusts_peer=False, merges_slashes=True, slashes=KEEP_SLASHES, underscores=PASS_UNDERSCORES
)
