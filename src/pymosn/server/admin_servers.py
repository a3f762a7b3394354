"""The servers of the admin API, and what they share."""

from __future__ import annotations

from collections.abc import Collection

from pymosn.control.access import Door
from pymosn.control.admin import create_app
from pymosn.control.http_server import HttpServer
from pymosn.control.live.calls import Live
from pymosn.control.live.versions import Versions
from pymosn.core.log import Log
from pymosn.server.changes import Changes
from pymosn.server.process_sockets import ProcessSockets
from pymosn.server.supervisor_plane import SupervisorPlane


def admin_servers(
    plane: SupervisorPlane,
    changes: Changes,
    filters: Collection[str],
    sockets: ProcessSockets,
    port: Door,
    log: Log,
) -> tuple[list[HttpServer], Live]:
    """The servers of the unix socket and of the port, and the data of the dashboard, a service that starts after them.

    Two servers with limits of their own: clients of the port cannot starve those of the unix socket. `filters`: names of
    the stream filters of installed packages. `port`: what clients of the port may do.
    """
    live = Live(plane, log, Versions(lambda: changes.config, plane.shown, log))
    changes.noted = live.versions.note
    unix = create_app(plane, log, filters, live=live)
    tcp = create_app(plane, log, filters, door=port, live=live)
    return [HttpServer(unix, sockets.admin_unix, "admin socket"), HttpServer(tcp, sockets.admin, "admin API")], live
