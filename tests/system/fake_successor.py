"""Stands in for a successor that fails: `python fake_successor.py BEHAVIOUR ...`, started by `pymosn upgrade --command`."""

import os
import signal
import socket
import struct
import sys

from pymosn.server.channel import frame
from pymosn.server.upgrade.messages import FROM_PREDECESSOR, VERSION, Complete, Estate, Ready, Refused, Take


class End:
    """The successor's end of the channel, without an event loop."""

    def __init__(self) -> None:
        self.sock = socket.socket(fileno=int(os.environ["PYMOSN_INHERIT"]))
        self._bytes = b""

    def _exactly(self, count: int) -> bytes:
        while len(self._bytes) < count:
            data, descriptors, _, _ = socket.recv_fds(self.sock, 65536, 250)
            if not data:
                os._exit(0)
            self._bytes += data
            self.descriptors = descriptors
        found, self._bytes = self._bytes[:count], self._bytes[count:]
        return found

    def read_until(self, kind: type) -> None:
        while True:
            size, _ = struct.unpack("!IB", self._exactly(5))
            if isinstance(FROM_PREDECESSOR.decode(self._exactly(size)), kind):
                return


def main(behaviour: str) -> None:
    """What each behaviour does, up to its end."""
    end = End()
    if behaviour == "exits":
        sys.exit(3)
    end.read_until(Estate if behaviour == "dies early" else Complete)
    match behaviour:
        case "dies early" | "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "rubbish":
            end.sock.sendall(b"\xff" * 100)
        case "invalid":
            end.sock.sendall(frame({"type": "Unknown"}))
        case "refuses":
            end.sock.sendall(frame(Refused(["it is too late"])))
            sys.exit(0)
        case "other version":
            end.sock.sendall(frame(Ready(VERSION + 7, "9.9")))
        case "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "ready, dies" | "takes, dies" | "takes, invalid":
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            socket.send_fds(end.sock, [frame(Ready(VERSION, "1.0"), 2)], [ours.fileno(), theirs.fileno()])
            if behaviour != "ready, dies":
                end.read_until(Take)
            if behaviour == "takes, invalid":
                end.sock.sendall(frame(["nothing"]))
            else:
                os.kill(os.getpid(), signal.SIGKILL)
    end.read_until(type(None))  # its end


if __name__ == "__main__":
    main(sys.argv[1])
