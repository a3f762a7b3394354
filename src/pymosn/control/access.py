"""Who may call what: the power of each call of the admin API, and what a client may do by the socket that it comes from.

A change of the configuration can run code: it names Python filters, and files that logs are written to. So changes need
proof. The unix socket gives it by its mode and by the kernel's credentials of the peer; TCP only by a token. Any client
of a TCP port can read. An address in a pod is shared by all its containers, so loopback proves nothing either.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

from pymosn.config.admin_files import TokenError, read_token, token_path
from pymosn.config.schema.top import Admin
from pymosn.control.hosts import HostError, is_allowed_host
from pymosn.control.threads import off_loop
from pymosn.core.log import ERROR, Log

#: Seconds for reading the token, which may be on a network mount.
TOKEN_TIME: Final = 5.0


class Power(enum.Enum):
    """What a call can do: read, switch logs, show profiles, take the process out of service, or change anything."""

    READ = "reads"
    LOG = "switches logs"
    PROFILE = "shows a profile of a process"
    DRAIN = "drains or ends the process"
    CHANGE = "changes"


class Door:
    """A listening socket of the admin API, with what its clients may do. This one, the unix socket, allows everything."""

    #: Names of hosts that are allowed besides IP addresses and `localhost`.
    _names: frozenset[str] = frozenset()

    def host_rejection(self, headers: Headers, is_public: bool) -> Response | None:
        """The response to a request that names another host; None if the name is allowed. `is_public`: any name is."""
        return None

    def is_known_host(self, headers: Headers) -> bool:
        """Whether the host that a request names is an IP address, `localhost`, or allowed by the configuration."""
        try:
            return is_allowed_host(headers.getlist("host"), self._names)
        except HostError:
            return False

    async def rejection(self, power: Power, headers: Headers) -> Response | None:
        """The response to a client that may not make a call of this power; None if it may."""
        return None


UNIX_DOOR: Final = Door()


class TcpDoor(Door):
    """A TCP port: it reads; it changes with the token, or without one if the configuration says so and it is loopback."""

    def __init__(self, admin: Admin, config_dir: str, is_loopback: Callable[[], bool], log: Log) -> None:
        """`config_dir`: the directory of relative paths. `is_loopback`: whether the socket is bound to such an address."""
        free = {Power.LOG} | ({Power.DRAIN} if admin.allow_drain_without_token else set())
        # What clients on the same machine may do without a token, besides reading.
        self._free: Final = set(Power) if admin.allow_changes_without_token else free
        self._token_path: Final = token_path(admin, config_dir) if admin.token_file else ""
        self._names = frozenset(name.lower().removesuffix(".") for name in admin.allowed_hosts)
        self._is_loopback = is_loopback
        self._log = log
        self._fault = ""

    def host_rejection(self, headers: Headers, is_public: bool) -> Response | None:
        try:
            if is_allowed_host(headers.getlist("host"), self._names) or is_public:
                return None
        except HostError as error:
            return PlainTextResponse(f"{error}\n", 400)
        text = "this Host is not allowed: use an IP address or localhost, or add the name to admin.allowed_hosts\n"
        return PlainTextResponse(text, 403)

    async def rejection(self, power: Power, headers: Headers) -> Response | None:
        if power is Power.READ:
            return None
        if self._is_loopback() and power in self._free:
            return None
        if not self._token_path:
            text = f"this call {power.value}, but this port only reads: use the unix socket (admin.socket) or a token"
            return PlainTextResponse(f"{text}\n", 403)
        given = _bearer_token(headers)
        if given is None:
            return _unauthorized(f"this call {power.value}: it needs the header Authorization: Bearer <token>\n")
        expected = await self._read_token()
        if expected is None:
            return PlainTextResponse("the token file cannot be used, so this port only reads; see the process log\n", 403)
        if not hmac.compare_digest(given, expected):
            return _unauthorized("wrong token\n")
        return None

    async def _read_token(self) -> bytes | None:
        """The token, read again each time so that it can be replaced; None if its file cannot be used."""
        try:
            token = await off_loop(TOKEN_TIME, read_token, self._token_path)
        except (TokenError, TimeoutError) as error:
            if str(error) != self._fault:
                self._fault = str(error)
                self._log.write(ERROR, f"admin.token_file cannot be used; changes over TCP are rejected: {error}")
            return None
        self._fault = ""
        return token


def _bearer_token(headers: Headers) -> bytes | None:
    """The token of RFC 6750, section 2.1; None without one, or with several."""
    values = headers.getlist("authorization")
    scheme, _, token = values[0].strip().partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" and token.strip() else None


def _unauthorized(text: str) -> Response:
    return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})
