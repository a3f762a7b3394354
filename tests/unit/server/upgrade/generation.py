"""A stand-in for a generation of pymosn, with the real tether: starts others, drains, ends, and prints what it does.

Commands are datagrams to the socket `N` in the current folder, where N is the number of the generation.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading

import uvloop

from pymosn.server.prctl import SET_CHILD_SUBREAPER, prctl
from pymosn.server.upgrade.keeper import FORWARDED
from pymosn.server.upgrade.tether import connect

number = int(sys.argv[1])


def say(text: str) -> None:
    os.write(1, f"{number} {text}\n".encode())


async def run() -> int:
    loop = asyncio.get_running_loop()
    tether = connect(loop, os.environ)
    prctl(SET_CHILD_SUBREAPER, 1)
    commands = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    commands.bind(str(number))
    tether.stop_now = lambda: say("hurries")
    for each in FORWARDED:
        tether.handle(loop, each, lambda each=each: say(each.name))
    # Threads that could be given signals, as the real one has them.
    for _ in range(4):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if number > 1:
        tether.take_over()
    say(f"serves {os.getpid()}")
    while True:
        word, *arguments = (await loop.sock_recv(commands, 100)).decode().split()
        match word:
            case "upgrade":
                descriptor, variables = tether.pass_on()
                child = subprocess.Popen(
                    [sys.executable, __file__, str(number + 1)],
                    pass_fds=[descriptor],
                    env={**os.environ, **variables},
                )
                tether.on_taken(child.pid)

                def wait(child: "subprocess.Popen[bytes]" = child) -> None:
                    code = child.wait()
                    loop.call_soon_threadsafe(tether.on_end, child.pid, code)

                threading.Thread(target=wait, daemon=True).start()
            case "orphan":
                subprocess.run([sys.executable, "-I", "-S", "-c", "import os\nif os.fork(): os._exit(0)"])
                say("left an orphan")
            case "notify":
                tether.notify(" ".join(arguments))
            case "hurry":
                tether.hurry()
            case "hang":
                say("hangs")
                threading.Event().wait()
            case "leave":
                return await tether.stay()
            case "die":
                signal.raise_signal(signal.Signals[arguments[0]])
            case "exit":
                return int(arguments[0])


code = uvloop.run(run())
sys.stdout.flush()
os._exit(code)
