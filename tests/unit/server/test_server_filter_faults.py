"""The last errors of filters, from a worker's filters to the supervisor."""

from tests.kit import Lines

from pymosn.core.counters import Metrics
from pymosn.proxy.filter_code import FilterCode, report_error
from pymosn.server.filter_faults import FILTERS, Fault, FaultReport, KnownFaults


def raised(error: BaseException) -> BaseException:
    def on_request() -> None:
        deeper(error)

    try:
        on_request()
    except BaseException as caught:
        return caught
    raise AssertionError


def deeper(error: BaseException) -> None:
    raise error


def code_with(error: BaseException | str, name: str = "Tenant", method: object = None) -> FilterCode:
    code = FilterCode(name, __name__, Metrics())
    report_error(Lines(), code, "[1,-,-]", error, method)
    return code


def unchanged(text: str) -> str:
    return text


def test_a_fault_has_the_phase_the_text_and_the_stack_with_the_innermost_call_first() -> None:
    [(name, at, phase, message, stack)] = FaultReport().take([code_with(raised(ValueError("no tenant")))], unchanged)
    assert (name, phase, message) == ("Tenant", "on_request", "ValueError: no tenant")
    assert at > 1_700_000_000
    assert [line.rpartition(" in ")[2] for line in stack] == ["deeper", "on_request", "raised"]
    assert all(line.startswith(f"{__file__}:") for line in stack)


def test_a_wrong_answer_has_the_phase_of_its_method_and_no_stack() -> None:
    def on_response_body() -> None: ...

    faults = FaultReport().take([code_with("it returned int, not bytes", method=on_response_body)], unchanged)
    assert [(fault[2], fault[3], fault[4]) for fault in faults] == [("on_response_body", "it returned int, not bytes", [])]
    faults = FaultReport().take([code_with("on_data returned int, not CONTINUE")], unchanged)
    assert [(fault[2], fault[4]) for fault in faults] == [("on_data", [])]


def test_a_deep_recursion_is_a_bounded_stack_of_its_innermost_calls() -> None:
    def on_route(depth: int) -> None:
        if depth == 0:
            raise RuntimeError
        on_route(depth - 1)

    try:
        on_route(200)
    except RuntimeError as error:
        [(_, _, phase, _, stack)] = FaultReport().take([code_with(error)], unchanged)
    assert phase == "on_route"
    assert len(stack) == 32


def test_each_fault_is_reported_once_without_secrets_and_the_newest_of_a_name() -> None:
    old, new = code_with(ValueError("first")), code_with(ValueError("second password"))
    assert old.last_fault is not None
    assert new.last_fault is not None
    old.last_fault.at = 1.0
    report = FaultReport()

    def hide(text: str) -> str:
        return text.replace("password", "***")

    assert [fault[3] for fault in report.take([new, old], hide)] == ["ValueError: second ***"]
    assert report.take([new, old], hide) == []
    report_error(Lines(), new, "", ValueError("third"))
    assert [fault[3] for fault in report.take([new, old], hide)] == ["ValueError: third"]


def test_the_supervisor_keeps_the_newest_of_all_workers_and_not_too_many() -> None:
    known = KnownFaults()
    fault: Fault = ("Tenant", 2.0, "on_request", "late", ["f.py:1 in on_request"])
    known.add(2, [fault])
    known.add(1, [("Tenant", 1.0, "on_request", "early", [])])
    kept = known.of("Tenant")
    assert kept == {"time": 2.0, "worker": 2, "phase": "on_request", "message": "late", "stack": ["f.py:1 in on_request"]}
    known.add(1, [(f"f{i}", 3.0, "", "", []) for i in range(FILTERS)])
    assert known.of("Tenant") is None
    assert known.of(f"f{FILTERS - 1}") is not None


def test_a_method_without_a_usable_name_leaves_the_phase_out() -> None:
    class Odd:
        @property
        def __name__(self) -> str:  # type: ignore[override]
            raise RuntimeError

        def __call__(self) -> None: ...

    [fault] = FaultReport().take([code_with("it returned int", method=Odd())], unchanged)
    assert (fault[2], fault[3]) == ("", "it returned int")
