"""The results of all runs, and figures derived from them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median

from bench.cases import MEMORY_CASES, TLS_SMALL
from bench.memory import MemoryResult


@dataclass(frozen=True)
class Sample:
    """One counted run. CPU times are those of the worker, in microseconds per request; latencies are in microseconds.

    `helper_cpu`: CPU time of the peer's other processes. `busy`: the worker's share of its core. `stolen`: the share of
    that core that the hypervisor withheld.
    """

    requests: int
    seconds: float
    cpu: float
    user: float
    system: float
    helper_cpu: float
    busy: float
    stolen: float
    p50: float
    p99: float


@dataclass
class Results:
    """All measurements. `load`, `memory`: by case and peer; `void`: reasons why a case is void for a peer."""

    load: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    memory: dict[str, dict[str, MemoryResult]] = field(default_factory=dict)
    void: dict[tuple[str, str], str] = field(default_factory=dict)
    #: User microseconds per request that the filters of a case added to `small` in each turn, and the same without sockets.
    filter_costs: dict[str, list[float]] = field(default_factory=dict)
    bare_filter_costs: dict[str, float] = field(default_factory=dict)
    #: CPU microseconds per call in each round, by protocol and row (see `bench.rpc`).
    rpc: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, case: str, peer: str, sample: Sample) -> None:
        """Adds one run."""
        self.load.setdefault(case, {}).setdefault(peer, []).append(sample)

    def mark_void(self, case: str, peer: str, reason: str) -> None:
        """Marks `case` as void for `peer`, including the rounds that succeeded."""
        self.void.setdefault((case, peer), reason)
        self.load.get(case, {}).pop(peer, None)

    def cpu(self, case: str, peer: str) -> float | None:
        """The median CPU microseconds per request; None if not measured."""
        samples = self.load.get(case, {}).get(peer)
        return middle(samples, lambda sample: sample.cpu) if samples else None

    def ratio(self, case: str, peer: str, to: str) -> float | None:
        """CPU per request of `peer` as a multiple of that of peer `to`."""
        own, other = self.cpu(case, peer), self.cpu(case, to)
        return own / other if own is not None and other else None

    def best(self, case: str, peer: str) -> float | None:
        """The CPU microseconds per request of the best round; None if not measured."""
        return min((sample.cpu for sample in self.load.get(case, {}).get(peer, [])), default=None)

    def best_ratio(self, case: str, peer: str, to: str) -> float | None:
        """Like `ratio`, of the best rounds of both."""
        own, other = self.best(case, peer), self.best(case, to)
        return own / other if own is not None and other else None

    def added(self, case: str, to: str, peer: str) -> float | None:
        """CPU microseconds that `case` takes more than case `to`: the median of the differences in each round."""
        own, other = (self.load.get(name, {}).get(peer, []) for name in (case, to))
        differences = [a.cpu - b.cpu for a, b in zip(own, other, strict=False)]
        return median(differences) if differences else None

    def added_ratio(self, case: str, to: str, peer: str, other: str) -> float | None:
        """What `case` takes more than case `to`, as a multiple of what it takes more in `other`."""
        own, others = self.added(case, to, peer), self.added(case, to, other)
        return own / others if own is not None and others is not None and others > 0 else None

    def rpc_ratio(self, protocol: str, row: str) -> float | None:
        """CPU per call as a multiple of the relay's."""
        rows = self.rpc.get(protocol)
        return median(rows[row]) / median(rows["relay"]) if rows else None

    def kib_each(self, case: str, peer: str) -> float | None:
        """KiB that an idle connection or stream adds to the worker; None if not measured."""
        measured = self.memory.get(case, {}).get(peer)
        return measured.each / 1024 if measured is not None else None

    def kib_added(self, case: str, to: str, peer: str) -> float | None:
        """The difference between two cases of `kib_each`."""
        own, other = self.kib_each(case, peer), self.kib_each(to, peer)
        return own - other if own is not None and other is not None else None

    def paired_ratio(self, case: str, to: str, peer: str) -> float | None:
        """CPU of a stream case as a multiple of that of case `to`: the median of the ratios in each turn."""
        own, other = (self.load.get(name, {}).get(peer, []) for name in (case, to))
        ratios = [a.cpu / b.cpu for a, b in zip(own, other, strict=False)]
        return median(ratios) if ratios else None

    def to_json(self) -> dict[str, object]:
        """Medians, ratios and all individual runs."""
        return {
            "load": {
                case: {
                    peer: {
                        "cpu_us_per_request": self.cpu(case, peer),
                        "ratio_to": {other: self.ratio(case, peer, other) for other in peers if other != peer},
                        "ratio_of_best_to": {other: self.best_ratio(case, peer, other) for other in peers if other != peer},
                        "runs": [asdict(sample) for sample in samples],
                    }
                    for peer, samples in peers.items()
                }
                for case, peers in self.load.items()
            },
            "filter_costs_us": self.filter_costs,
            "filter_costs_without_sockets_us": self.bare_filter_costs,
            "rpc_us_per_call": self.rpc,
            **{
                case: {peer: memory.to_json() for peer, memory in self.memory.get(case, {}).items()} for case in MEMORY_CASES
            },
            "tls_adds_us": {peer: self.added(*TLS_SMALL, peer) for peer in self.load.get(TLS_SMALL[0], {})},
            "void": [{"case": case, "peer": peer, "reason": reason} for (case, peer), reason in self.void.items()],
        }


def middle(samples: list[Sample], pick: Callable[[Sample], float]) -> float:
    """The median of one figure over the rounds."""
    return median(pick(sample) for sample in samples)
