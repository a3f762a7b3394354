"""What an operator asks of a tap: conditions on exchanges, and bounds."""

from typing import Annotated, Final

import msgspec

from pymosn.core.address_ranges import parse_network

#: Largest values that may be asked for: bytes of each body, seconds, and records.
MOST_BODY: Final = 1024 * 1024
LONGEST_TAP: Final = 24 * 3600.0
MOST_RECORDS: Final = 1_000_000

#: `404`, `5xx` or `failed`.
Status = Annotated[str, msgspec.Meta(pattern=r"^([1-5][0-9][0-9]|[1-5]xx|failed)$")]


class TapOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All conditions that are given must hold; empty ones, and 0, mean any. The attributes are those of `TapRule`.

    `client`: an IP address or a network. `seconds`, `count`: the tap ends by itself after that time, and after so many
    records.
    """

    listener: str = ""
    protocol: str = ""
    method: str = ""
    path: str = ""
    host: str = ""
    route: str = ""
    cluster: str = ""
    headers: list[tuple[str, str]] = []
    statuses: list[Status] = []
    reason: str = ""
    client: str = ""
    slower: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    sample: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    bodies: Annotated[int, msgspec.Meta(ge=0, le=MOST_BODY)] = 0
    rate: Annotated[float, msgspec.Meta(ge=1, le=100_000)] = 1000.0
    byte_rate: Annotated[float, msgspec.Meta(ge=1024, le=1 << 30)] = 8.0 * 1024 * 1024
    seconds: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_TAP)] = 60.0
    count: Annotated[int, msgspec.Meta(ge=0, le=MOST_RECORDS)] = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a client that is neither an address nor a network."""
        if self.client:
            parse_network(self.client)
