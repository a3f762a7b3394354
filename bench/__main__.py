"""`python -m bench`: compares pymosn with other proxies. Exit code 1: a run is void, or a peer is missing."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from bench.cases import CASE_NAMES
from bench.machine import choose_cores, facts, raise_file_limit
from bench.peers import DEFAULT_PEERS, PEER_NAMES, Peer, make_peer
from bench.plot import write_plot
from bench.processes import Processes
from bench.report import render, write_json
from bench.run import Run
from bench.samples import Results
from bench.void import Unavailable

RESULTS = Path(__file__).with_name("results")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parses the command line; exits if it is invalid."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of one second: a smoke test, not a figure")
    parser.add_argument("--case", nargs="+", choices=CASE_NAMES, default=list(CASE_NAMES), metavar="NAME")
    parser.add_argument("--peers", nargs="+", choices=PEER_NAMES, default=list(DEFAULT_PEERS), metavar="NAME")
    parser.add_argument("--seconds", type=int, help="length of a run, default 2")
    parser.add_argument("--rounds", type=int, help="number of runs of each case, default 5")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory for results.json, table.txt and plot.svg")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the peer pymosn")
    parser.add_argument("--baseline", type=Path, help="source directory of the peer pymosn-baseline")
    parser.add_argument("--mosn", type=Path, help="the program of the peer mosn")
    parser.epilog = f"cases: {', '.join(CASE_NAMES)}; peers: {', '.join(PEER_NAMES)}"
    given = parser.parse_args(argv)
    given.seconds = given.seconds or (1 if given.quick else 2)
    given.rounds = given.rounds or (1 if given.quick else 5)
    if given.seconds < 1 or given.rounds < 1:
        parser.error("--seconds and --rounds must be at least 1")
    return given


def find_peers(given: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """The available peers, and the versions of all; missing peers are reported and omitted."""
    peers: list[Peer] = []
    versions: dict[str, str] = {}
    for name in given.peers:
        try:
            peer = make_peer(name, given.python, given.baseline, given.mosn)
            versions[name] = peer.version()
        except (Unavailable, OSError) as fault:
            print(f"continuing without {name}: {fault}", flush=True)
            versions[name] = f"not measured: {fault}"
        else:
            peers.append(peer)
    return peers, versions


def write(out: Path, results: Results, machine: dict[str, str], versions: dict[str, str]) -> None:
    """Prints the table; writes the table, JSON and plots to `out`."""
    text = render(results, machine, versions)
    print("\n" + text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.txt").write_text(text + "\n")
    write_json(out / "results.json", results, machine, versions)
    try:
        for name in ("plot.svg", "plot.png"):
            write_plot(out / name, results)
    except Unavailable as fault:
        print(f"no plot: {fault}")
    print(f"\nresults written to {out}")


def main(argv: list[str]) -> int:
    """Measures and reports; returns the exit code."""
    given = arguments(argv)
    machine = facts()
    raise_file_limit()
    cores = choose_cores()
    if cores.proxy == cores.load:
        print("only one core, shared by proxy, load and upstream: the figures are not meaningful")
    try:
        peers, versions = find_peers(given)
        with (
            tempfile.TemporaryDirectory(prefix="pymosn-bench-") as directory,
            Processes(Path(directory)) as processes,
        ):
            results = Run(peers, processes, cores, given.seconds).rounds(given.case, given.rounds)
    except Unavailable as fault:
        print(f"no benchmark: {fault}", file=sys.stderr)
        return 2
    write(given.out, results, machine, versions)
    complete = len(peers) == len(given.peers) and not results.void
    return 0 if complete else 1


def _end(signum: int, frame: object) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
