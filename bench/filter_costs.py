"""The cost that the filters of a case add to a request, without sockets: `pymosn bench-filter` in the peer's build."""

import json
import subprocess

from bench.cases import REQUEST_FIELDS, Case
from bench.peers.pymosn import FILTER_CLASSES, FILTER_FILE, Pymosn
from bench.processes import on_core
from bench.void import Unavailable


def cost_without_sockets(peer: Pymosn, case: Case, core: int) -> float:
    """Microseconds of CPU. Raises Unavailable, with the program's output, if it cannot be measured."""
    command = [peer.python, "-m", "pymosn", "bench-filter", "--json", "-H", f"x-user: {REQUEST_FIELDS['X-User']}"]
    for number in range(1, case.filters + 1):
        command += ["--config", json.dumps({"number": number})]
    command += [f"{FILTER_FILE}:{FILTER_CLASSES[case.kind]}"] * case.filters
    with on_core(core):
        done = subprocess.run(command, capture_output=True, text=True, env=peer.environment(), timeout=120)
    if done.returncode != 0:
        raise Unavailable(f"pymosn bench-filter: {done.stderr.strip()[-300:]}")
    answer = json.loads(done.stdout)
    return float(answer["with_filters_us"] - answer["empty_us"])
