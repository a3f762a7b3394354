"""The client side of `pymosn reload`: signals the running process and gets the result through the admin API."""

import http.client
import os
import signal
import time
from typing import Final

import msgspec

from pymosn.config.schema import MosnConfig
from pymosn.control.plane import ChangeResult
from pymosn.control.threads import within
from pymosn.core.files import read_regular
from pymosn.server.logs import process_log_path
from pymosn.server.pid_file import pid_path

#: Wildcard addresses, to which one cannot connect, with the loopback address to use instead.
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
#: Seconds for reading the pid file.
READ_TIME: Final = 10.0


class ReloadError(Exception):
    """The process cannot be reached or does not answer; the text is the reason."""


def reload_running(config: MosnConfig, base_dir: str, timeout: float) -> ChangeResult:
    """Sends SIGHUP to the process of the configuration's pid file and waits for the result, at most `timeout` seconds.

    Without an admin port the result only refers to the process log.
    """
    path = pid_path(config, base_dir)
    try:
        pid = int(within(READ_TIME, read_regular, path, 100))
    except (OSError, ValueError) as error:
        raise ReloadError(f"no process found: pid file {path}: {error}") from error
    _signal(pid, 0)
    endpoint = config.admin.endpoint() if config.admin is not None else None
    before = _last_change(endpoint).attempt if endpoint is not None else 0
    _signal(pid, signal.SIGHUP)
    if endpoint is None:
        message = f"signal sent to {pid}; no admin port: see {process_log_path(config, base_dir)} for the result"
        return ChangeResult(attempt=0, source="SIGHUP", applied=True, version=0, message=message, faults=[])
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        result = _last_change(endpoint)
        if result.attempt > before:
            return result
        time.sleep(0.05)
    raise ReloadError(f"no result within {timeout:g} s; see {process_log_path(config, base_dir)}")


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except OSError as error:
        raise ReloadError(f"process {pid}: {error.strerror}") from error


def _last_change(endpoint: tuple[str, int]) -> ChangeResult:
    host, port = endpoint
    connection = http.client.HTTPConnection(_WILDCARDS.get(host, host), port, timeout=5.0)
    try:
        connection.request("GET", "/api/v1/last_change")
        return msgspec.json.decode(connection.getresponse().read(), type=ChangeResult)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise ReloadError(f"the admin API at {host}:{port} does not answer: {error}") from error
    finally:
        connection.close()
