"""Medians, ratios, promises and the table."""

import pytest
from bench.measure import Memory
from bench.memory import MemoryResult
from bench.report import render, table
from bench.samples import Results, Sample
from bench.targets import verdicts


def sample(cpu: float) -> Sample:
    return Sample(
        requests=1000,
        seconds=2.0,
        cpu=cpu,
        user=cpu / 4,
        system=cpu * 3 / 4,
        helper_cpu=0.0,
        busy=0.5,
        stolen=0.0,
        p50=100,
        p99=900,
    )


def results(case: str, **costs: list[float]) -> Results:
    made = Results()
    for peer, each in costs.items():
        for cost in each:
            made.add(case, peer, sample(cost))
    return made


def test_the_figure_is_the_median_of_the_rounds() -> None:
    made = results("small", nginx=[10, 14, 90], envoy=[20, 28, 30])
    assert made.cpu("small", "nginx") == 14
    assert made.ratio("small", "envoy", "nginx") == 2.0
    assert made.ratio("small", "envoy", "haproxy") is None


def test_one_void_run_voids_the_case_for_that_peer() -> None:
    made = results("small", nginx=[10], envoy=[20])
    made.mark_void("small", "envoy", "wrk counted errors: 3 read")
    assert made.cpu("small", "envoy") is None
    assert made.cpu("small", "nginx") == 10
    assert "VOID small of envoy: wrk counted errors: 3 read" in render(made, {}, {})


def test_promises_are_checked_only_against_measurements() -> None:
    assert verdicts(results("small", nginx=[10])) == []
    made = results("small", pymosn=[12], nginx=[10], envoy=[20])
    made.filter_costs["filter1"] = [2.5, 1.0, 2.0]
    rest = Memory(1000, 1000)
    made.memory["memory"] = {"pymosn": MemoryResult(rest, Memory(1000 + 2000 * 5 * 1024, 0), Memory(0, 0), 2000)}
    judged = {verdict.target: verdict for verdict in verdicts(made)}
    assert [round(verdict.figure, 2) for verdict in judged.values()] == [0.6, 1.2, 2.0, 5.0]
    assert [verdict.met for verdict in judged.values()] == [True, True, False, True]


def test_json_holds_the_ratios_and_each_run() -> None:
    document = results("small", pymosn=[12, 13], nginx=[10]).to_json()
    load = document["load"]
    assert isinstance(load, dict)
    assert load["small"]["pymosn"]["ratio_to"] == {"nginx": 1.25}
    assert [run["cpu"] for run in load["small"]["pymosn"]["runs"]] == [12, 13]


def test_columns_line_up() -> None:
    assert table([["", "CPU"], ["nginx", "9.1"], ["pymosn", "10.25"]]) == (
        "            CPU\n  nginx     9.1\n  pymosn  10.25"
    )


def test_a_stream_case_is_compared_turn_by_turn() -> None:
    made = Results()
    for plain, filtered in ((10.0, 10.1), (20.0, 20.2), (10.0, 12.0)):
        made.add("sse", "pymosn", sample(plain))
        made.add("sse-header", "pymosn", sample(filtered))
    assert made.paired_ratio("sse-header", "sse", "pymosn") == pytest.approx(1.01)
    assert made.paired_ratio("sse-header", "sse", "envoy") is None
    (verdict,) = verdicts(made)
    assert (verdict.limit, verdict.met) == (1.02, True)


def test_the_cost_of_filters_has_a_table() -> None:
    made = Results()
    made.filter_costs["async1"] = [3.0, 1.0, 2.0]
    made.bare_filter_costs["async1"] = 4.5
    rows = [line.split() for line in render(made, {}, {}).splitlines()]
    assert ["async1", "2.00", "1.00-3.00", "4.50"] in rows
    assert [(verdict.figure, verdict.met) for verdict in verdicts(made)] == [(4.5, False)]


def test_what_tls_adds_is_the_median_difference_within_rounds() -> None:
    made = results("small", pymosn=[10, 20, 30], nginx=[10, 20, 30])
    for peer, costs in {"pymosn": [16, 27, 34], "nginx": [13, 22, 36]}.items():
        for cost in costs:
            made.add("tls_small", peer, sample(cost))
    assert made.added("tls_small", "small", "pymosn") == 6
    assert made.added_ratio("tls_small", "small", "pymosn", "nginx") == 2.0
    assert made.best_ratio("tls_small", "pymosn", "nginx") == pytest.approx(16 / 13)
    text = render(made, {}, {})
    assert "what TLS adds" in text
    judged = {verdict.target: verdict for verdict in verdicts(made)}
    assert judged["what TLS adds to a small GET, as a multiple of nginx's"].met
