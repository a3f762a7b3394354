"""The HTTP servers of the supervisor, and what those of the admin API share."""

from __future__ import annotations

from pymosn.control.access import Door
from pymosn.control.admin import create_app
from pymosn.control.demo import create_demo
from pymosn.control.http_server import HttpServer
from pymosn.control.live.calls import Live
from pymosn.control.live.versions import Versions
from pymosn.control.profiling import create_pprof
from pymosn.core.log import Log
from pymosn.filters.loading import FILTERS, installed
from pymosn.server.changes import Changes
from pymosn.server.process_sockets import ProcessSockets
from pymosn.server.supervisor_plane import SupervisorPlane


def http_servers(
    plane: SupervisorPlane, changes: Changes, sockets: ProcessSockets, port: Door, profiling: Door, log: Log
) -> tuple[list[HttpServer], Live]:
    """The servers, and the data of the dashboard, a service that starts after them.

    The admin API has two with limits of their own: clients of the port cannot starve those of the unix socket. `port`: what
    clients of the port may do; `profiling`: clients of the port for profiles.
    """
    live = Live(plane, log, Versions(lambda: changes.config, plane.shown, log))
    changes.noted = live.versions.note
    filters = installed(FILTERS)
    unix = create_app(plane, log, filters, live=live)
    tcp = create_app(plane, log, filters, door=port, live=live)
    servers = [
        HttpServer(create_demo(), sockets.demo, "demo upstream"),
        HttpServer(unix, sockets.admin_unix, "admin socket"),
        HttpServer(tcp, sockets.admin, "admin API"),
        HttpServer(create_pprof(plane, log, profiling), sockets.pprof, "profiles"),
    ]
    return servers, live
