"""`pymosn top`: what the dashboard shows, in a terminal.

It asks the admin API each second, over the unix socket or a port, and only reads.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pymosn.core.addresses import UNIX, address_host, address_port
from pymosn.kit import top_views
from pymosn.kit.command_line import GoCommand
from pymosn.kit.commands import fail
from pymosn.kit.mosn_flags import running_config_option
from pymosn.kit.top_views import Get, UnknownPathError
from pymosn.kit.units import clean
from pymosn.server.run_options import ConfigSource

#: Seconds between two frames, and for one answer.
PERIOD: Final = 1.0
TIMEOUT: Final = 10.0
#: Bytes of an answer.
LONGEST: Final = 8 * 1024 * 1024
VIEWS: Final = ("overview", "listeners", "clusters", "hosts", "routes", "filters", "workers", "exchanges")
#: Lines of a frame that are not rows: the line at the top, the tabs, a header, the line at the bottom.
_FRAME: Final = 7
#: Columns of a terminal that has space around the names of the views.
_WIDE: Final = 96

#: What terminals send for keys, and our names.
_KEYS: Final = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "next",
    b"\x1b[D": "previous",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "next",
    b"\x1bOD": "previous",
    b"\x1b[Z": "previous",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\t": "next",
    b"k": "up",
    b"j": "down",
    b"q": "quit",
    b"Q": "quit",
    b"\x03": "quit",
}


class AskError(Exception):
    """The process does not answer; the text is the reason."""


def by_socket(path: str) -> Get:
    """Asks over a unix socket."""
    from pymosn.server.admin_client import CallError, json_of_running

    def get(target: str) -> Any:
        try:
            return json_of_running(path, target, TIMEOUT)
        except CallError as error:
            if " answered 404" in str(error):
                raise UnknownPathError(target) from None
            raise AskError(str(error)) from None

    return get


def by_port(host: str, port: int, token: str = "") -> Get:
    """Asks over TCP. `token`: for a port that demands it."""

    def get(target: str) -> Any:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        try:
            connection.request("GET", target, headers={"authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            body = response.read(LONGEST + 1)
            if response.status == 404:
                raise UnknownPathError(target)
            if response.status != 200:
                raise AskError(f"{host}:{port} answered {response.status}: {clean(body[:200].decode('utf-8', 'replace'))}")
            if len(body) > LONGEST:
                raise AskError(f"{host}:{port} sent more than {LONGEST} bytes")
            return json.loads(body)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise AskError(f"no answer from {host}:{port}: {clean(error) or type(error).__name__}") from None
        finally:
            connection.close()

    return get


class Top:
    """What is shown: the view, and the first row of it."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self.view = 0
        self.offset = 0
        self._rows = 0
        self._height = 20

    def on_key(self, key: str) -> bool:
        """Handles a key; false at the end."""
        if key == "quit":
            return False
        before = self.view
        if key in ("next", "previous"):
            self.view = (self.view + (1 if key == "next" else -1)) % len(VIEWS)
        elif key.isdigit() and 1 <= int(key) <= len(VIEWS):
            self.view = int(key) - 1
        steps = {"up": -1, "down": 1, "page up": -self._height, "page down": self._height}
        last = max(0, self._rows - self._height)
        self.offset = 0 if self.view != before else min(last, max(0, self.offset + steps.get(key, 0)))
        return True

    def frame(self, width: int, height: int, has_keys: bool = True) -> RenderableType:
        """One frame; `has_keys`: with the tabs and the keys. AskError if the process does not answer."""
        self._height = max(1, height - _FRAME)
        try:
            facts = self._get(f"/api/v1/live/overview?history={top_views.POINTS}")
            head, body = top_views.head(facts, width), self._body(facts, width)
        except UnknownPathError:
            raise AskError("the process has no such view; it may be an older version") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AskError(f"the answer has an unexpected form: {clean(error)}") from None
        if not has_keys:
            return Group(head, Text(), body)
        tabs = Text(no_wrap=True)
        space = " " if width >= _WIDE else ""
        for index, name in enumerate(VIEWS):
            tabs.append(f"{space}{index + 1}{space}{name}{space}", style="reverse" if index == self.view else "dim")
            tabs.append("" if space else " ")
        rows = (
            f"  rows {self.offset + 1} to {min(self._rows, self.offset + self._height)} of {self._rows}"
            if self._rows
            else ""
        )
        foot = Text(f"q quit  tab, arrows or 1-8: view  up, down: rows{rows}", style="dim", no_wrap=True)
        return Group(head, tabs, Text(), body, Text(), foot)

    def _body(self, facts: dict[str, Any], width: int) -> RenderableType:
        name = VIEWS[self.view]
        self._rows = 0
        if name == "overview":
            return top_views.overview(facts["points"], facts, width)
        if name in ("filters", "workers", "exchanges"):
            view = {"filters": top_views.filters, "workers": top_views.workers, "exchanges": top_views.exchanges}[name]
            shown, self._rows = view(self._get, self.offset, self._height, width)
        else:
            shown, self._rows = top_views.table(name, self._get, self.offset, self._height, width)
        return shown


@contextlib.contextmanager
def _raw_keys(descriptor: int) -> Iterator[None]:
    """Keys arrive one by one and are not echoed."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def keys_in(data: bytes) -> list[str]:
    """The names of the keys in what a terminal has sent; digits are themselves."""
    found = []
    while data:
        known = next((code for code in sorted(_KEYS, key=len, reverse=True) if data.startswith(code)), b"")
        if known:
            found.append(_KEYS[known])
        elif data[:1].isdigit():
            found.append(data[:1].decode())
        elif data[:1] == b"\x1b":
            break  # an unknown sequence
        data = data[len(known) or 1 :]
    return found


def _run(top: Top, console: Console, descriptor: int) -> None:
    """Shows frames until the key q. A process that does not answer is asked again."""
    with _raw_keys(descriptor), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown: RenderableType = top.frame(console.width, console.height)
            except AskError as error:
                shown = Group(Text(str(error), style="red"), Text("asking again each second; q to quit", style="dim"))
            live.update(shown, refresh=True)
            deadline = time.monotonic() + PERIOD
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([descriptor], [], [], left)[0]:
                    break
                data = os.read(descriptor, 64)
                keys = keys_in(data)
                if not data or not all(top.on_key(key) for key in keys):
                    return
                if keys:
                    break


def _getter(ctx: click.Context, path: str, address: str | None) -> Get:
    if address is None:
        return by_socket(ConfigSource(path).load().admin_socket)
    if address.startswith((UNIX, "/")):
        return by_socket(address.removeprefix(UNIX))
    # The log has it as a URL.
    address = address.removeprefix("http://").partition("/")[0]
    port = address_port(address)
    if not port:
        raise click.BadParameter(f"{address!r} is neither HOST:PORT nor unix:PATH", param_hint="'--admin'")
    return by_port(address_host(address) or "127.0.0.1", int(port), os.environ.get("PYMOSN_ADMIN_TOKEN", ""))


@click.command(name="top", cls=GoCommand)
@running_config_option()
@click.option("--admin", "address", metavar="ADDRESS", help="unix:PATH or HOST:PORT of the admin API, instead of a file.")
@click.option("--view", type=click.Choice(VIEWS), default="overview", show_default=True, help="The view at the beginning.")
@click.option("--once", is_flag=True, help="Print one frame and exit; for scripts.")
@click.pass_context
def show_top(ctx: click.Context, path: str, address: str | None, view: str, once: bool) -> None:
    """Show live rates, latencies, hosts, filters and processes of a running pymosn.

    The process is found by its admin socket, or by --admin. Keys: tab, arrows or 1 to 8 for the view, q to quit.
    """
    top = Top(_getter(ctx, path, address))
    top.view = VIEWS.index(view)
    console = Console()
    if once or not (sys.stdin.isatty() and console.is_terminal):
        try:
            # Rates need two samples.
            top.frame(console.width, console.height)
            time.sleep(2 * PERIOD + 0.2)
            console.print(top.frame(console.width, 10_000, has_keys=False))
        except AskError as error:
            fail(str(error))
        return
    with contextlib.suppress(KeyboardInterrupt):
        _run(top, console, sys.stdin.fileno())
