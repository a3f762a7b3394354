"""One complete measurement: every case with every peer, in alternating rounds."""

from collections.abc import Sequence
from statistics import median

from bench import measure
from bench.cases import (
    CHUNKS,
    FILTER_CASES,
    HTTP2,
    LOAD_CASES,
    MEMORY_CASES,
    RPC_CASES,
    STREAM_CASES,
    Case,
    case_named,
)
from bench.certificate import make_certificate
from bench.filter_costs import cost_without_sockets
from bench.h2load import H2load
from bench.handshakes import run_handshakes
from bench.load import LoadResult, Wrk
from bench.machine import Cores, free_port
from bench.memory import measure_memory, measure_stream_memory
from bench.peers import Peer, Plan, Running
from bench.peers.pymosn import Pymosn
from bench.processes import Processes
from bench.rpc import measure_rows
from bench.samples import Results, Sample
from bench.streams import run_streams
from bench.targets import OWN
from bench.upstream import Upstream
from bench.verify import check_totals, check_work, probe
from bench.void import Unavailable, Void

WARM_UP_SECONDS = 0.3
#: Per round of the other cases: turns of one second, each without filters and with those of each filter case; and turns of
#: the stream cases, each with 10,000 chunks.
FILTER_TURNS = 2
STREAM_TURNS = 3


class Run:
    """Measures peers. A peer keeps running for later rounds: one process for each setup."""

    def __init__(self, peers: Sequence[Peer], processes: Processes, cores: Cores, seconds: int) -> None:
        """`seconds`: duration of each counted run. Raises Unavailable if the upstream or load generator is missing."""
        self.peers = peers
        self.processes = processes
        self.cores = cores
        self.seconds = seconds
        self.certificate = make_certificate(processes.directory)
        self.wrk = Wrk(cores.load, self.certificate.client_settings)
        self.upstream = Upstream(processes, cores.load)
        self.results = Results()
        self._stream_port = free_port()
        self._h2load: H2load | None = None
        self._started: dict[tuple[str, tuple[object, ...], bool], Running] = {}

    def rounds(self, cases: Sequence[str], count: int) -> Results:
        """Measures `cases`: memory once, the others `count` times, with the peers alternating within each round."""
        for name, (_, setup) in MEMORY_CASES.items():
            case = case_named(setup)
            for peer in self.peers:
                if name in cases and peer.takes(case):
                    self._memory(name, case, peer)
        for round_number in range(1, count + 1):
            for case in LOAD_CASES:
                if case.name in cases and not 0 < case.rounds < round_number:
                    # Each round starts with another peer, so that none always runs after the same one.
                    first = round_number % max(1, len(self.peers))
                    for peer in [*self.peers[first:], *self.peers[:first]]:
                        self._load(case, peer, f"round {round_number}/{count}")
        for peer in self.peers:
            streams = [case for case in STREAM_CASES if case.name in cases and peer.takes(case)]
            self._streams(streams, peer, count * STREAM_TURNS)
            if isinstance(peer, Pymosn) and peer.name == OWN:
                self._filter_costs(peer, [case_named(name) for name in FILTER_CASES if name in cases], count * FILTER_TURNS)
                self._rpc([protocol for protocol in RPC_CASES if protocol in cases], count)
        self._in_order()
        return self.results

    def _rpc(self, protocols: Sequence[str], count: int) -> None:
        for protocol in protocols:
            try:
                rows = measure_rows(protocol, self.processes, self.cores, count, float(self.seconds))
            except (Void, Unavailable, OSError) as fault:
                self.results.mark_void(protocol, OWN, str(fault))
                print(f"{protocol:10} {OWN:18} VOID: {fault}", flush=True)
                continue
            self.results.rpc[protocol] = rows
            for row, costs in rows.items():
                print(f"{protocol:10} {row:18} {median(costs):8.2f} us CPU per call", flush=True)

    def _filter_costs(self, peer: Pymosn, cases: Sequence[Case], turns: int) -> None:
        """The costs that filters add: short runs with and without them alternate, so that conditions are the same.

        The difference between two cases measured a minute apart would mostly be due to the machine. Only user time counts:
        a header filter makes no system calls, and system time varies by more than the filter costs. The cost measured
        without sockets is more exact.
        """
        costs = self.results.filter_costs
        try:
            for turn in range(turns if cases else 0):
                order = [case_named("small"), *cases]
                if turn % 2:
                    order.reverse()
                user = {case.name: self._sample(case, self._running(peer, case), 1).user for case in order}
                for case in cases:
                    costs.setdefault(case.name, []).append(user[case.name] - user["small"])
            for case in cases:
                added = cost_without_sockets(peer, case, self.cores.proxy)
                self.results.bare_filter_costs[case.name] = added
                print(f"{case.name:8} adds {added:.2f} us without sockets", flush=True)
        except (Void, Unavailable, OSError) as fault:
            costs.clear()
            print(f"cost of filters: VOID: {fault}", flush=True)

    def _streams(self, cases: Sequence[Case], peer: Peer, turns: int) -> None:
        """Measures chunks on many concurrent streams, with the cases alternating."""
        failed: set[str] = set()
        for turn in range(turns):
            for case in cases if turn % 2 else reversed(cases):
                if case.name in failed:
                    continue
                try:
                    self.results.add(case.name, peer.name, self._stream_sample(case, self._running(peer, case)))
                except (Void, Unavailable, OSError) as fault:
                    failed.add(case.name)
                    self.results.mark_void(case.name, peer.name, str(fault))
                    print(f"{case.name:10} {peer.name:18} VOID: {fault}", flush=True)
        for case in cases:
            cost = self.results.cpu(case.name, peer.name)
            if cost is not None:
                print(f"{case.name:10} {peer.name:18} {cost:8.2f} us CPU per chunk", flush=True)

    def _stream_sample(self, case: Case, running: Running) -> Sample:
        plan = running.plan
        before = measure.read_cpu(running.workers), measure.read_cpu(running.helpers)
        stolen = measure.stolen_seconds(self.cores.proxy)
        load = run_streams(plan.port, plan.upstream_port, case, CHUNKS // case.streams, self.cores.load)
        worker = measure.read_cpu(running.workers).since(before[0])
        helpers = measure.read_cpu(running.helpers).since(before[1])
        stolen = measure.stolen_seconds(self.cores.proxy) - stolen
        return _as_sample(load, worker, helpers, stolen)

    def _load(self, case: Case, peer: Peer, label: str) -> None:
        if (case.name, peer.name) in self.results.void or not peer.takes(case):
            return
        try:
            sample = self._sample(case, self._running(peer, case), self.seconds)
        except (Void, Unavailable, OSError) as fault:  # OSError: a process of the peer is gone from /proc
            self.results.mark_void(case.name, peer.name, str(fault))
            print(f"{label}  {case.name:13} {peer.name:18} VOID: {fault}", flush=True)
            return
        self.results.add(case.name, peer.name, sample)
        print(f"{label}  {case.name:13} {peer.name:18} {sample.cpu:8.1f} us CPU per request", flush=True)

    def _sample(self, case: Case, running: Running, seconds: int) -> Sample:
        port, certificate = running.plan.port, running.plan.certificate
        response_size = probe(port, case, certificate)
        arrived = self.upstream.requests()
        stolen = measure.stolen_seconds(self.cores.proxy)
        before = measure.read_cpu(running.workers), measure.read_cpu(running.helpers)
        if case.handshakes:
            load = run_handshakes(port, case, seconds, self.certificate, self.cores.load)
        else:
            load = self._generator(case).run(port, case, seconds)
        worker = measure.read_cpu(running.workers).since(before[0])
        helpers = measure.read_cpu(running.helpers).since(before[1])
        stolen = measure.stolen_seconds(self.cores.proxy) - stolen
        arrived = self.upstream.requests() - arrived - 1
        # In flight when the load stopped: one per connection, now and in the preceding warm-up.
        check_totals(case, load.requests, load.bytes, response_size, arrived, spare=2 * case.in_flight)
        probe(port, case, certificate)
        return _as_sample(load, worker, helpers, stolen)

    def _running(self, peer: Peer, case: Case) -> Running:
        key = (peer.name, case.setup, case.streams > 0)
        if key not in self._started:
            name = f"{peer.name}-{'-'.join(map(str, case.setup))}"
            if case.streams:
                running = self._start(peer, case, f"{name}-streams")
                self._stream_sample(case, running)
            else:
                running = self._start(peer, case, name)
                if peer.http and peer.adds_fields:
                    check_work(running.plan.port, case, running.plan.certificate)
                self._generator(case).warm_up(running.plan.port, case, WARM_UP_SECONDS)
            self._started[key] = running
        return self._started[key]

    def _generator(self, case: Case) -> Wrk | H2load:
        if case.front != HTTP2:
            return self.wrk
        if self._h2load is None:
            self._h2load = H2load(self.cores.load, self.processes.directory, self.certificate.client_settings)
        return self._h2load

    def _memory(self, name: str, case: Case, peer: Peer) -> None:
        try:
            running = self._start(peer, case, f"{peer.name}-{name}")
            try:
                measured = measure_stream_memory(running, case) if case.streams else measure_memory(running)
            finally:
                self.processes.stop(running.process)
        except (Void, Unavailable, OSError) as fault:
            self.results.mark_void(name, peer.name, str(fault))
            print(f"{name:10} {peer.name:18} VOID: {fault}", flush=True)
            return
        self.results.memory.setdefault(name, {})[peer.name] = measured
        print(f"{name:13} {peer.name:18} {measured.each / 1024:8.1f} KiB per idle {measured.unit}", flush=True)

    def _start(self, peer: Peer, case: Case, name: str) -> Running:
        directory = self.processes.directory / name
        upstream = self._stream_port if case.streams else self.upstream.ports[case.back]
        certificate = self.certificate if case.tls else None
        work = (case.filters, directory, case.hosts, case.routes, case.kind, certificate, case.front, case.back)
        plan = Plan(free_port(), upstream, *work)
        return peer.start(plan, self.processes, self.cores.proxy)

    def _in_order(self) -> None:
        for case, measured in self.results.load.items():
            self.results.load[case] = {p.name: measured[p.name] for p in self.peers if p.name in measured}


def _as_sample(load: LoadResult, worker: measure.Cpu, helpers: measure.Cpu, stolen: float) -> Sample:
    scale = 1e6 / load.requests
    return Sample(
        requests=load.requests,
        seconds=load.seconds,
        cpu=worker.total * scale,
        user=worker.user * scale,
        system=worker.system * scale,
        helper_cpu=helpers.total * scale,
        busy=worker.total / load.seconds,
        stolen=stolen / load.seconds,
        p50=load.p50,
        p99=load.p99,
    )
