"""The side of MOSN in its smooth upgrade (`pkg/server/reconfigure.go`, `handler.go`), for tests without the program.

It holds the sockets that it is given, but serves none.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Seconds after which it gives up.
PATIENCE: Final = 20.0


class OldMosnStandIn:
    """Serves `reconfig.sock` in `folder` for one upgrade. `outcome`: "" until it is over, then why it ended."""

    def __init__(
        self,
        folder: Path,
        sockets: Sequence[socket.socket],
        *,
        config: bytes | None = None,
        acknowledges: bool = True,
        sends: bool = True,
    ) -> None:
        """`config`: what it sends to `mosnconfig.sock`, as with `inherit_old_mosnconfig`. `acknowledges`: the end.

        `sends`: whether it sends its sockets, which a MOSN that is ending does not.
        """
        self.outcome = ""
        self.done = threading.Event()
        self._folder = folder
        self._sockets = sockets
        self._config = config
        self._acknowledges = acknowledges
        self._sends = sends
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / "reconfig.sock"))
        self._listening.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        try:
            self.outcome = self._upgrade()
        except OSError as error:
            self.outcome = f"failed: {error}"
        self.done.set()

    def _upgrade(self) -> str:
        caller, _ = self._listening.accept()
        with caller:
            caller.sendall(b"\0")
        if not self._sends:
            return "sent nothing"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self._folder / "listen.sock"))
            socket.send_fds(connection, [b"\0"], [sock.fileno() for sock in self._sockets])
            if self._config is not None:
                with socket.socket(socket.AF_UNIX) as configs:
                    configs.settimeout(PATIENCE)
                    configs.connect(str(self._folder / "mosnconfig.sock"))
                    configs.sendall(self._config)
            if not connection.recv(1):
                return "not replaced"
            if not self._acknowledges:
                connection.settimeout(PATIENCE)
                return "refused" if not connection.recv(1) else "broken"
            connection.sendall(b"\0")
        return "replaced"
