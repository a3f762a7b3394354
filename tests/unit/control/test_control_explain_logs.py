"""What `explain` tells about access logs."""

from pymosn.api.routing import Route, RouteAction, RouteMatcher
from pymosn.config.schema import AccessLog
from pymosn.config.schema.http_chain import LogFilter
from pymosn.control.explain_logs import log_lines, log_states
from pymosn.observe.access_log import SWITCHES

LOGS = [
    AccessLog(log_path="/a"),
    AccessLog(log_path="/b", name="audit", disabled=True),
    AccessLog(name="errors", filter=LogFilter(failed=True)),
]


def lines(switches: dict[str, bool] | None) -> list[str]:
    settings = None if switches is None else {SWITCHES: switches}
    return log_lines({"access_logs": log_states(LOGS, Route("r", RouteMatcher(), RouteAction(), None, settings))})


def test_each_log_is_told_with_the_reason() -> None:
    assert lines(None) == [
        "/a yes",
        "/b (audit) no: it is disabled, and no route switches it on",
        "default (errors) yes: if its filter selects it",
    ]
    assert lines({"*": False, "audit": True}) == [
        "/a no: the route or its virtual host has access_logs.*: false",
        "/b (audit) yes: the route or its virtual host has access_logs.audit: true",
        "default (errors) no: the route or its virtual host has access_logs.*: false",
    ]
    assert log_lines({}) == []
    assert [state["logged"] for state in log_states(LOGS, None)] == [True, False, True]
