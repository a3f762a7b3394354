"""Checks the user, the group and the modes that the process and its unix sockets shall have."""

from pymosn.config.accounts import find_account, find_group, parse_mode
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Listener, MosnConfig


def check_identity(config: MosnConfig, report: Diagnostics) -> None:
    """Check `user`, `group` and `umask`."""
    if config.user:
        _check_account(config.user, config.group, "", report)
    elif config.group:
        report.error("group", "needs the key `user`", config.group)
    if config.umask:
        report.attempt("umask", parse_mode, config.umask, value=config.umask)


def check_socket_file(listener: Listener, path: str, report: Diagnostics) -> None:
    """Check `mode`, `user` and `group` of a listener."""
    given = [key for key in ("mode", "user", "group") if getattr(listener, key)]
    if given and (listener.network or "tcp").lower() != "unix":
        report.error(f"{path}.{given[0]}", "only a unix socket is a file; it needs `network: unix`")
        return
    if listener.mode:
        report.attempt(f"{path}.mode", parse_mode, listener.mode, value=listener.mode)
    if listener.user:
        _check_account(listener.user, listener.group, path, report)
    elif listener.group:
        report.attempt(f"{path}.group", find_group, listener.group, value=listener.group)


def _check_account(user: str, group: str, path: str, report: Diagnostics) -> None:
    prefix = f"{path}." if path else ""
    if group and report.attempt(f"{prefix}group", find_group, group, value=group) is None:
        return
    report.attempt(f"{prefix}user", find_account, user, group, value=user)
