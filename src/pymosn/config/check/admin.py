"""Checks the admin API: who can reach it, and who may change something through it."""

from typing import Final

from pymosn.config.admin_files import read_token, socket_fault, token_path
from pymosn.config.check.addresses import is_host_name, is_ip, is_loopback
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema.top import Admin, Pprof

_ADDRESS: Final = "admin.address.socket_address.address"
_OPEN: Final = "admin.allow_changes_without_token"
_DRAIN: Final = "admin.allow_drain_without_token"


def check_admin(admin: Admin, report: Diagnostics) -> None:
    """Check everything but files; see `check_admin_files`."""
    endpoint = admin.endpoint()
    if endpoint is None and not admin.socket:
        report.warning("admin", "no address.socket_address.port_value: there is no admin port, only the unix socket")
    elif endpoint is not None:
        _check_reach(admin, endpoint[0], report)
    for index, name in enumerate(admin.allowed_hosts):
        if not is_host_name(name) and not is_ip(name):
            report.error(f"admin.allowed_hosts[{index}]", "must be a host name, without a port", name)
    for index, folder in enumerate(admin.allowed_folders):
        if not folder or "\0" in folder:
            report.error(f"admin.allowed_folders[{index}]", "not a path, absolute or relative to this file", folder)


def _check_reach(admin: Admin, host: str, report: Diagnostics) -> None:
    """`host`: the address of the port."""
    local = host == "localhost" or is_loopback(host)
    if admin.allow_changes_without_token and not local:
        message = "allowed only if the admin port is on a loopback address; use token_file"
        report.error(_OPEN, message)
    elif admin.allow_changes_without_token and admin.token_file:
        report.warning(_OPEN, "token_file has no effect: changes are allowed without it")
    if admin.allow_drain_without_token and not local:
        report.warning(_DRAIN, "has no effect: the admin port is not on a loopback address", host)
    if not local:
        changes = "changes need the token, which is sent unencrypted" if admin.token_file else "it rejects changes"
        message = f"not a loopback address: all clients of this port may read the configuration; {changes}"
        report.warning(_ADDRESS, message, host)


def check_pprof(pprof: Pprof, admin: Admin | None, report: Diagnostics) -> None:
    """Check the profiling port. `admin`: with the token that it needs off loopback."""
    address = pprof.address()
    if address is None:
        if pprof.port_value or pprof.endpoint:
            report.warning("pprof", "has no effect without debug: true")
        return
    host = address[0]
    if not is_host_name(host) and not is_ip(host):
        report.error("pprof.endpoint", "must be an IP address or a host name, without a port", host)
    elif host != "localhost" and not is_loopback(host):
        has_token = admin is not None and bool(admin.token_file)
        calls = (
            "calls need the token, which is sent unencrypted" if has_token else "without admin.token_file no call is served"
        )
        report.warning("pprof.endpoint", f"not a loopback address: {calls}", host)


def check_admin_files(admin: Admin, config_dir: str, report: Diagnostics) -> None:
    """Check what the keys with paths refer to. `config_dir`: the directory of the configuration file."""
    fault = socket_fault(admin.socket) if admin.socket else None
    if fault is not None:
        report.error("admin.socket", fault, admin.socket)
    if admin.token_file:
        report.attempt("admin.token_file", read_token, token_path(admin, config_dir))
