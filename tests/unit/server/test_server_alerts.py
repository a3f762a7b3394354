"""MOSN's alert keys in the lines of the supervisor."""

import pytest
from tests.kit import Lines

from pymosn.control.plane import ChangeResult
from pymosn.core import log as alerts
from pymosn.server.change_steps import TAKEN_OVER, log_result


def result(applied: bool) -> ChangeResult:
    return ChangeResult(attempt=1, source="SIGHUP", applied=applied, version=1, message="text", faults=[])


@pytest.mark.parametrize(
    ("applied", "rejection", "alert"),
    [(True, "", ""), (False, "", "mosn.common.config_parse_error"), (False, TAKEN_OVER, "")],
)
def test_a_change_that_is_rejected_is_an_alert(applied: bool, rejection: str, alert: str) -> None:
    lines = Lines()
    log_result(lines, result(applied), rejection)
    assert lines.alerts == [alert]


def test_the_keys_are_those_of_mosn() -> None:
    found = {value for name, value in vars(alerts).items() if name.startswith("ALERT_")}
    assert found == {
        *(f"mosn.proxy.{key}" for key in ("route_match_failed", "cluster_get_failed", "upstream_conn_failed")),
        *(f"mosn.proxy.{key}" for key in ("codec_error", "panic")),
        "mosn.admin.admin_failed",
        *(f"mosn.common.{key}" for key in ("config_parse_error", "config_dump_failed", "reconfigure_failed")),
        *(f"mosn.common.{key}" for key in ("tls_fallback", "sds_failed", "tls_read_error")),
        "proxy.auto",
    }
