"""The data path's interface to the process log: a level to compare and a method to write."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

TRACE: Final = 5
DEBUG: Final = 10
INFO: Final = 20
WARN: Final = 30
ERROR: Final = 40
FATAL: Final = 50
OFF: Final = 100

# MOSN's alert keys (key reference section 2.1), which lines for monitoring begin with.
ALERT_ROUTE: Final = "mosn.proxy.route_match_failed"
ALERT_CLUSTER: Final = "mosn.proxy.cluster_get_failed"
ALERT_UPSTREAM: Final = "mosn.proxy.upstream_conn_failed"
ALERT_AUTO: Final = "proxy.auto"
ALERT_CODEC: Final = "mosn.proxy.codec_error"
ALERT_PANIC: Final = "mosn.proxy.panic"
ALERT_ADMIN: Final = "mosn.admin.admin_failed"
ALERT_CONFIG: Final = "mosn.common.config_parse_error"
ALERT_DUMP: Final = "mosn.common.config_dump_failed"
ALERT_UPGRADE: Final = "mosn.common.reconfigure_failed"
ALERT_FALL_BACK: Final = "mosn.common.tls_fallback"
ALERT_SECRET: Final = "mosn.common.sds_failed"
ALERT_TLS: Final = "mosn.common.tls_read_error"
#: Seconds between two lines about the same kind of event, where peers could fill the log.
LINE_PERIOD: Final = 1.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Log:
    """Discards everything; `observe` implements it. Check `level` before building an expensive text."""

    def __init__(self) -> None:
        self.level: int = OFF

    def hide(self, secret: object) -> None:
        """Removes a secret from all further lines."""

    def write(self, level: int, text: str, alert: str = "") -> None:
        """Writes a line if `level` is at least the log's; `alert`: MOSN's alert key (key reference section 2.1)."""


class LineLimit:
    """Lets one line pass in LINE_PERIOD, and knows how many did not."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def passes(self, now: float) -> bool:
        """Whether a line may be written. `now`: by `Clock.now`."""
        if now < self._next:
            self._left_out += 1
            return False
        self._next = now + LINE_PERIOD
        return True

    def note(self) -> str:
        """What to add to a line that passed: how many were left out before it, if any."""
        left_out, self._left_out = self._left_out, 0
        return f" ({left_out} more like it before)" if left_out else ""
