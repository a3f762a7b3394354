"""All sockets that the process listens on."""

import socket
from typing import Final

from pymosn.control.service import Service
from pymosn.server.listeners import ListenerSockets
from pymosn.server.run_options import RunOptions, StartError
from pymosn.server.sockets import BindError, close_all, listen

#: Address of the built-in example's demo upstream.
DEMO_ADDRESS: Final = ("127.0.0.1", 8080)


class ProcessSockets(Service):
    """Binds the sockets of all listeners, of the admin API and of the demo upstream; the last two may have none."""

    name = "sockets"

    def __init__(self, options: RunOptions, workers: int) -> None:
        self.listeners = ListenerSockets()
        self.admin: list[socket.socket] = []
        self.demo: list[socket.socket] = []
        self._options = options
        self._workers = workers

    async def start(self) -> None:
        """StartError with all addresses that cannot be bound."""
        lines = self.listeners.bind(self._options.config.servers[0].listeners, self._workers)
        admin = self._options.config.admin
        endpoint = admin.endpoint() if admin is not None else None
        wanted = [("admin", endpoint, self.admin)]
        if self._options.is_demo:
            wanted.append(("demo upstream", DEMO_ADDRESS, self.demo))
        for owner, address, sockets in wanted:
            try:
                if address is not None:
                    sockets += listen(owner, *address, 1)
            except BindError as error:
                lines.append(str(error))
        if lines:
            raise StartError(lines=lines)

    async def stop(self) -> None:
        self.listeners.close()
        close_all([*self.admin, *self.demo])
