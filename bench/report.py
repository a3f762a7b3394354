"""The results as text tables and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.cases import LOAD_CASES, MEMORY_CASES, STREAM_CASES, TLS_SMALL
from bench.memory import MemoryResult
from bench.samples import Results, Sample, middle
from bench.targets import verdicts

COMPARED = ("nginx", "haproxy", "envoy", "envoy-ext-proc", "relay", "mosn")
NOTES = """CPU: user and system time of the worker process, microseconds per completed request; median, minimum and maximum
of the rounds. "x nginx" etc.: CPU as a multiple of that peer's, by the medians; "best": by the minima of both. busy: the
worker's share of its core; below 100% the load core was the limit, so compare CPU, not requests per second. p50, p99: closed
loop, microseconds. Header filters: Python in pymosn, Lua in Envoy, a Python server called through ext_proc in envoy-ext-proc
(CPU of both processes); nginx and haproxy use built-in directives, for reference. In the sse cases everything is per chunk;
p50 and p99 are the time for sending one chunk on all streams; grpc_stream is the same with messages."""


def render(results: Results, facts: dict[str, str], versions: dict[str, str]) -> str:
    """The complete report as text."""
    parts = ["\n".join(f"{name:18} {value}" for name, value in {**facts, **versions}.items())]
    for case in (*LOAD_CASES, *STREAM_CASES):
        if results.load.get(case.name):
            parts.append(f"{case.name}: {case.title}\n{_load_table(results, case.name)}")
    if results.load.get(TLS_SMALL[0]) and results.load.get(TLS_SMALL[1]):
        parts.append(f"what TLS adds to a small GET: median of the differences in each round\n{_tls_table(results)}")
    if results.filter_costs:
        parts.append(f"cost that filters add to a small GET in pymosn\n{_filter_table(results)}")
    if results.rpc:
        parts.append(f"RPC: 1 KiB echoed, 64 calls in flight on 8 connections\n{_rpc_table(results)}")
    for name, (title, _) in MEMORY_CASES.items():
        if results.memory.get(name):
            parts.append(f"{name}: {title}\n{_memory_table(results.memory[name])}")
    judged = verdicts(results)
    if judged:
        lines = [f"{v.target:57} {v.figure:6.2f}   at most {v.limit:g}: {'ok' if v.met else 'MISSED'}" for v in judged]
        parts.append("targets (for the compiled build)\n" + "\n".join(lines))
    parts += [f"VOID {case} of {peer}: {reason}" for (case, peer), reason in results.void.items()]
    return "\n\n".join([*parts, NOTES])


def write_json(path: Path, results: Results, facts: dict[str, str], versions: dict[str, str]) -> None:
    """Writes all measurements."""
    targets = [{"target": v.target, "figure": v.figure, "limit": v.limit, "met": v.met} for v in verdicts(results)]
    document = {"machine": facts, "versions": versions, **results.to_json(), "targets": targets}
    path.write_text(json.dumps(document, indent=1) + "\n")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first is left-aligned, the others are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(["", row[0].ljust(widths[0]), *cells[1:]]))
    return "\n".join(lines)


def _load_table(results: Results, case: str) -> str:
    peers = results.load[case]
    compared = [peer for peer in COMPARED if peer in peers]
    header = ["", "CPU us", "min-max", "user", "system", *(f"x {peer}" for peer in compared), "best"]
    rows = [[*header, "other us", "req/s", "busy", "p50", "p99"]]
    for peer, samples in peers.items():
        rows.append([peer, *_cpu_cells(samples), *(_ratio_cell(results, case, peer, to) for to in compared)])
        best = results.best_ratio(case, peer, "nginx")
        rows[-1].append("" if best is None or peer == "nginx" else f"{best:.2f}")
        rows[-1] += _speed_cells(samples)
    return table(rows)


def _cpu_cells(samples: list[Sample]) -> list[str]:
    costs = [sample.cpu for sample in samples]
    user = middle(samples, lambda sample: sample.user)
    system = middle(samples, lambda sample: sample.system)
    min_max = f"{min(costs):.1f}-{max(costs):.1f}"
    return [f"{middle(samples, lambda sample: sample.cpu):.1f}", min_max, f"{user:.1f}", f"{system:.1f}"]


def _speed_cells(samples: list[Sample]) -> list[str]:
    rate = middle(samples, lambda sample: sample.requests / sample.seconds)
    busy = middle(samples, lambda sample: sample.busy)
    p50, p99 = middle(samples, lambda sample: sample.p50), middle(samples, lambda sample: sample.p99)
    helpers = middle(samples, lambda sample: sample.helper_cpu)
    return [f"{helpers:.2f}", f"{rate:.0f}", f"{busy:.0%}", f"{p50:.0f}", f"{p99:.0f}"]


def _ratio_cell(results: Results, case: str, peer: str, to: str) -> str:
    ratio = results.ratio(case, peer, to)
    return "" if ratio is None or peer == to else f"{ratio:.2f}"


def _filter_table(results: Results) -> str:
    rows = [["", "user us, alternating", "min-max", "us without sockets"]]
    for case, costs in results.filter_costs.items():
        bare = results.bare_filter_costs.get(case)
        row = [case, f"{median(costs):.2f}", f"{min(costs):.2f}-{max(costs):.2f}", "" if bare is None else f"{bare:.2f}"]
        rows.append(row)
    return table(rows)


def _rpc_table(results: Results) -> str:
    rows = [["", "CPU us per call", "min-max", "x relay"]]
    for protocol, figures in results.rpc.items():
        for row, costs in figures.items():
            ratio = results.rpc_ratio(protocol, row)
            min_max = f"{min(costs):.2f}-{max(costs):.2f}"
            rows.append([f"{protocol}, {row}", f"{median(costs):.2f}", min_max, f"{ratio:.2f}"])
    return table(rows)


def _tls_table(results: Results) -> str:
    rows = [["", "CPU us", "x nginx"]]
    for peer in results.load[TLS_SMALL[0]]:
        added, ratio = results.added(*TLS_SMALL, peer), results.added_ratio(*TLS_SMALL, peer, "nginx")
        if added is not None:
            rows.append([peer, f"{added:.2f}", "" if ratio is None or peer == "nginx" else f"{ratio:.2f}"])
    return table(rows)


def _memory_table(measured: dict[str, MemoryResult]) -> str:
    (unit, *_) = {memory.unit for memory in measured.values()}
    rows = [["", "RSS at rest MiB", "PSS", "others RSS", f"per 1,000 {unit}s MiB", f"per {unit} KiB"]]
    for peer, memory in measured.items():
        sizes = (memory.rest.rss, memory.rest.pss, memory.helpers.rss, memory.each * 1000)
        rows.append([peer, *(f"{size / 2**20:.1f}" for size in sizes), f"{memory.each / 1024:.1f}"])
    return table(rows)
