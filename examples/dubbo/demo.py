"""Runs the whole example: `python examples/dubbo/demo.py` (requires Maven; see `-h`).

A Dubbo 3 consumer calls pymosn on 2045, which forwards to pymosn on 2046, which forwards to the provider on 20880.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from interop.peers import LOOPBACK, NotServed, Peer, build  # noqa: E402


def main() -> int:
    """Builds the Java peers, starts all four programs, makes the calls, and stops everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dubbo", choices=["2", "3"], default="3", help="the version of consumer and provider")
    parser.add_argument("--calls", type=int, default=10, help="number of calls")
    options = parser.parse_args()
    try:
        build()
    except NotServed as reason:
        print(f"The Java peers cannot be built here: {reason}")
        return 1
    module = f"dubbo{options.dubbo}"
    with ExitStack() as stack:
        stack.enter_context(Peer(module, "dubbo.Provider", "20880", "blue", "1.0.1")).expect("READY")
        for side in ("client", "server"):
            stack.callback(end, start(side))
        url = f"dubbo://{LOOPBACK}:2045"
        consumer = stack.enter_context(Peer(module, "dubbo.Consumer", url, "blue", "1.0.1", "load", str(options.calls), "1"))
        _, ok, wrong, failed, *kinds = consumer.expect("RESULT ").split()
    print(f"{ok} calls succeeded, {wrong} got a wrong response, {failed} failed {' '.join(kinds)}")
    return 0 if int(ok) == options.calls else 1


def start(side: str) -> subprocess.Popen[str]:
    """Starts a pymosn and waits until it is ready; its access log goes to standard output."""
    command = [sys.executable, "-m", "pymosn", "start", "-c", str(HERE / f"{side}_config.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        print(f"{side}: {line}", end="")
        if "ready:" in line:
            return process
    raise SystemExit(f"the {side} side did not start")


def end(process: subprocess.Popen[str]) -> None:
    """Drains and stops a process, and prints its remaining output."""
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    print(rest, end="")


if __name__ == "__main__":
    sys.exit(main())
