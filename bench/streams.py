"""The load of the stream cases: `bench.sse` or `bench.grpc_stream` in a process on the load core."""

import subprocess
import sys

from bench.cases import HTTP2, Case
from bench.load import LoadResult, result_of
from bench.processes import on_core
from bench.void import Void


def run_streams(proxy: int, upstream: int, case: Case, chunks: int, core: int) -> LoadResult:
    """Sends `chunks` on each of the case's streams. Raises Void if one of them breaks, or a filter did not run.

    Latencies are measured from sending a chunk on all streams until all clients have received it.
    """
    program, numbers = "bench.sse", [proxy, upstream, case.streams, chunks]
    if case.front == HTTP2:
        program, numbers = "bench.grpc_stream", [proxy, upstream, case.streams, case.connections, chunks]
    command = [sys.executable, "-m", program, *map(str, numbers)]
    with on_core(core):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    result = result_of(output, program)
    if result["chunks"] != case.streams * chunks:
        raise Void(f"{result['chunks']} chunks instead of {case.streams * chunks}")
    for k in range(1, case.filters + 1):
        if f"\r\nx-served-{k}: bench\r\n" not in result["head"].lower():
            raise Void(f"the response has no x-served-{k}: filter {k} did not run")
    return LoadResult(result["chunks"], result["bytes"], result["seconds"], result["p50"], result["p99"])
