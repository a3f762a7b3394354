"""The targets of the compiled pymosn; each is checked if the required figures were measured."""

from dataclasses import dataclass
from statistics import median

from bench.cases import TLS_SMALL
from bench.samples import Results

OWN = "pymosn"


@dataclass(frozen=True)
class Verdict:
    """One target, the figure that was measured, and its limit."""

    target: str
    figure: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure is within the limit."""
        return self.figure <= self.limit


def verdicts(results: Results) -> list[Verdict]:
    """The targets that these results can be checked against."""
    memory, tls_memory = results.memory.get(OWN), results.tls_memory.get(OWN)
    costs = results.filter_costs.get("filter1")
    candidates = (
        ("small GET: CPU as a multiple of Envoy's", results.ratio("small", OWN, "envoy"), 0.65),
        ("small GET: CPU as a multiple of nginx's", results.ratio("small", OWN, "nginx"), 1.4),
        ("1 MiB body: CPU as a multiple of nginx's", results.ratio("body1m", OWN, "nginx"), 1.0),
        ("one Python header filter adds, us", median(costs) if costs else None, 1.5),
        ("without sockets: one header filter adds, us", results.bare_filter_costs.get("filter1"), 1.0),
        ("without sockets: three add, us", results.bare_filter_costs.get("filter3"), 2.5),
        ("without sockets: an async one adds, us", results.bare_filter_costs.get("async1"), 4.0),
        ("SSE chunks: a header filter, CPU as a multiple", results.paired_ratio("sse-header", "sse", OWN), 1.02),
        ("unchanged Bolt frame: CPU as a multiple of the relay's", results.rpc_ratio("bolt", "unchanged"), 1.6),
        ("unchanged Dubbo frame: CPU as a multiple of the relay's", results.rpc_ratio("dubbo", "unchanged"), 1.6),
        ("an idle keep-alive connection takes, KiB", memory.per_connection / 1024 if memory else None, 6.0),
        ("what TLS adds to a small GET, as a multiple of nginx's", results.added_ratio(*TLS_SMALL, OWN, "nginx"), 2.0),
        ("TLS, small GET: CPU as a multiple of nginx's", results.ratio("tls_small", OWN, "nginx"), 1.35),
        ("TLS, small GET: CPU as a multiple of Envoy's", results.ratio("tls_small", OWN, "envoy"), 0.6),
        ("TLS, 1 MiB body: CPU as a multiple of nginx's", results.ratio("tls_1m", OWN, "nginx"), 1.1),
        ("TLS, full handshakes, best rounds: CPU, x nginx", results.best_ratio("tls_handshake", OWN, "nginx"), 1.25),
        ("TLS, full handshakes: CPU as a multiple of nginx's", results.ratio("tls_handshake", OWN, "nginx"), 1.5),
        ("TLS, resumed: CPU as a multiple of nginx's", results.ratio("tls_resumed", OWN, "nginx"), 1.5),
        ("an idle TLS connection takes, KiB", tls_memory.per_connection / 1024 if tls_memory else None, 22.0),
    )
    return [Verdict(target, figure, limit) for target, figure, limit in candidates if figure is not None]
