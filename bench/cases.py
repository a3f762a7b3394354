"""What is asked of every peer."""

from dataclasses import dataclass
from pathlib import Path

SMALL_BODY = b"The upstream says: all is well, and this sentence is padded so that it is one hundred bytes long..\r\n"
LARGE_SIZE = 1 << 20

#: The fields a request carries besides Host. `x-user` is the one that the header filters read.
REQUEST_FIELDS = {"User-Agent": "bench", "Accept": "*/*", "X-User": "alice"}


@dataclass(frozen=True)
class Case:
    """One kind of load.

    `filters`: how many header filters the proxy runs. `connections`: kept busy at the same time, each with one request
    in flight. `new_connections`: whether every request comes on a connection of its own.
    """

    name: str
    title: str
    path: str = "/small"
    filters: int = 0
    connections: int = 64
    new_connections: bool = False

    @property
    def fields(self) -> dict[str, str]:
        """The request's header fields besides Host."""
        return {**REQUEST_FIELDS, "Connection": "close"} if self.new_connections else REQUEST_FIELDS


LOAD_CASES = (
    Case("small", "small GET, keep-alive, 64 connections"),
    Case("body1m", "1 MiB response body, keep-alive, 16 connections", path="/large", connections=16),
    Case("filter1", "small GET through 1 header filter", filters=1),
    Case("filter3", "small GET through 3 header filters", filters=3),
    Case("newconn", "small GET, a new connection for each", new_connections=True),
)
MEMORY = "memory"
CASE_NAMES = (*(case.name for case in LOAD_CASES), MEMORY)


def large_body() -> bytes:
    """1 MiB in which every 256-byte block differs from the others, so that a lost or doubled piece shows."""
    return b"".join(number.to_bytes(4, "big") * 64 for number in range(LARGE_SIZE // 256))


def write_large_body(path: Path) -> None:
    """Writes the file that the upstream serves as `/large`."""
    path.write_bytes(large_body())
