"""Coverage-guided fuzzing of the HTTP/1 codec: `python -m tests.fuzz.atheris_http1 requests|replies [libFuzzer options]`.

Needs the extra `fuzz` and the interpreted build: compiled code tells nothing of its coverage. Seeds are the corpus and
the hostile tables.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pymosn.protocol", "pymosn.core.headers", "h11"]):
    from tests.fuzz.checks import COMPATIBLE, SMALL, check_forwarded, check_reply, check_requests, check_splits
    from tests.kit.options import http_limits

    from pymosn.protocol.http.policy import STRICT

from tests.hostile.tables import REPLIES, REQUESTS

CORPUS = Path(__file__).parent / "corpus"
#: Longer seeds teach nothing that shorter ones do not.
LONGEST = 2000


def one_request(data: bytes) -> None:
    """Everything that must hold for bytes from a client."""
    check_requests(data)
    check_forwarded(data, STRICT)
    check_forwarded(data, COMPATIBLE)
    if data:
        check_splits(data, [data[0] % len(data), len(data) // 2], SMALL if data[-1] & 1 else http_limits())


def one_reply(data: bytes) -> None:
    """Everything that must hold for bytes from an upstream."""
    check_reply(data, b"HEAD" if data[-1:] == b"H" else b"GET")
    if data:
        check_splits(data, [data[0] % len(data), len(data) // 2], SMALL if data[-1] & 1 else http_limits())


def write_seeds(folder: Path, kind: str) -> None:
    """One file for each member of the tables and of the corpus that is of this kind."""
    seeds = [path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))]
    seeds = [data for data in seeds if data.startswith(b"HTTP/") == (kind == "replies")]
    if kind == "replies":
        seeds += [case.wire for case in REPLIES]
    else:
        seeds += [data for case in REQUESTS for _, data, _ in list(case.wires())[:2]]
    for number, data in enumerate(seeds):
        if len(data) <= LONGEST:
            (folder / f"{number:05}").write_bytes(data)


def main() -> None:
    """Fuzzes until the options say stop; a finding ends it with its bytes in a file."""
    kind = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as name:
        write_seeds(Path(name), kind)
        atheris.Setup([sys.argv[0], name, *sys.argv[1:]], {"requests": one_request, "replies": one_reply}[kind])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
