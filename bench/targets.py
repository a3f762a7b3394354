"""The targets of the compiled pymosn; each is checked if the required figures were measured."""

from dataclasses import dataclass
from statistics import median

from bench.cases import H2_MEMORY, MEMORY, STREAM_MEMORY, TLS_H2_MEMORY, TLS_MEMORY, TLS_SMALL
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
        ("an idle keep-alive connection takes, KiB", results.kib_each(MEMORY, OWN), 6.0),
        ("what TLS adds to a small GET, as a multiple of nginx's", results.added_ratio(*TLS_SMALL, OWN, "nginx"), 2.0),
        ("TLS, small GET: CPU as a multiple of nginx's", results.ratio("tls_small", OWN, "nginx"), 1.35),
        ("TLS, small GET: CPU as a multiple of Envoy's", results.ratio("tls_small", OWN, "envoy"), 0.6),
        ("TLS, 1 MiB body: CPU as a multiple of nginx's", results.ratio("tls_1m", OWN, "nginx"), 1.1),
        ("TLS, full handshakes, best rounds: CPU, x nginx", results.best_ratio("tls_handshake", OWN, "nginx"), 1.25),
        ("TLS, full handshakes: CPU as a multiple of nginx's", results.ratio("tls_handshake", OWN, "nginx"), 1.5),
        ("TLS, resumed: CPU as a multiple of nginx's", results.ratio("tls_resumed", OWN, "nginx"), 1.5),
        ("an idle TLS connection takes, KiB", results.kib_each(TLS_MEMORY, OWN), 22.0),
        ("HTTP/2 to HTTP/1.1, small GET: CPU, x Envoy", results.ratio("h2_h1", OWN, "envoy"), 0.5),
        ("HTTP/2 to HTTP/1.1, small GET: CPU, x nginx", results.ratio("h2_h1", OWN, "nginx"), 0.9),
        ("HTTP/2 to HTTP/2, small GET: CPU, x Envoy", results.ratio("h2_h2", OWN, "envoy"), 0.5),
        ("HTTP/2 to HTTP/2, small GET: CPU, x MOSN", results.ratio("h2_h2", OWN, "mosn"), 0.25),
        ("unary gRPC: CPU as a multiple of Envoy's", results.ratio("grpc_unary", OWN, "envoy"), 0.5),
        ("HTTP/2 to HTTP/1.1, 1 MiB body: CPU, x Envoy", results.ratio("h2_h1_1m", OWN, "envoy"), 1.0),
        ("HTTP/2 to HTTP/2, 1 MiB body: CPU, x Envoy", results.ratio("h2_h2_1m", OWN, "envoy"), 1.0),
        ("an idle HTTP/2 connection takes, KiB", results.kib_each(H2_MEMORY, OWN), 12.0),
        ("what TLS adds to an idle HTTP/2 connection, KiB", results.kib_added(TLS_H2_MEMORY, H2_MEMORY, OWN), 20.0),
        ("an open stream takes, KiB", results.kib_each(STREAM_MEMORY, OWN), 2.0),
    )
    return [Verdict(target, figure, limit) for target, figure, limit in candidates if figure is not None]
