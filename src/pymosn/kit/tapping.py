"""`pymosn tap` and `pymosn record`: the exchanges of a running process that meet some conditions, shown or written."""

from __future__ import annotations

import base64
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

import click
import msgspec

from pymosn.control.exchange_text import story_lines
from pymosn.core.address_ranges import parse_network
from pymosn.kit.command_line import GoCommand
from pymosn.kit.commands import fail
from pymosn.kit.mosn_flags import running_config_option, warn
from pymosn.observe.tap_options import LONGEST_TAP, MOST_BODY, MOST_RECORDS
from pymosn.observe.text import one_line
from pymosn.recording.bodies import hide_in_bodies
from pymosn.recording.files import RecordingError, RecordingWriter
from pymosn.server.run_options import ConfigSource

Command = TypeVar("Command", bound=Callable[..., Any])

#: Bytes of a body that are shown to people.
SHOWN_BODY: Final = 1000
_UNITS: Final = {"": 1, "b": 1, "k": 1000, "kb": 1000, "kib": 1024, "m": 1000**2, "mb": 1000**2, "mib": 1024**2}
_UNITS_LARGE: Final = {**_UNITS, "g": 1000**3, "gb": 1000**3, "gib": 1024**3}
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
_STATUS: Final = re.compile(r"[1-5][0-9][0-9]|[1-5]xx|failed")


class Size(click.ParamType[int]):
    """A number of bytes: `4096`, `4KiB`, `100MB`."""

    name = "size"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,15})\s*([A-Za-z]*)", str(value))
        unit = None if match is None else _UNITS_LARGE.get(match.group(2).lower())
        if match is None or unit is None:
            self.fail(f"{value!r} is not a size such as 4096, 4KiB or 100MB.", param, ctx)
        size = int(match.group(1)) * unit
        if size > self._most:
            self.fail(f"{value!r} is more than {self._most} bytes.", param, ctx)
        return size


class Duration(click.ParamType[float]):
    """A time: `100ms`, `2s`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a time such as 100ms or 2s.", param, ctx)
        return float(match.group(1)) * {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}[match.group(2)]


def _header(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Conditions on headers: `name=value`, or `name` for any value."""
    found = []
    for value in values:
        name, _, wanted = value.partition("=")
        if not name:
            raise click.BadParameter(f"{value!r} has no name.")
        found.append((name, wanted))
    return found


def _client(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        if value:
            parse_network(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value


def _statuses(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    found = [part.strip().lower() for value in values for part in value.split(",")]
    for part in found:
        if _STATUS.fullmatch(part) is None:
            raise click.BadParameter(f"{part!r} is neither a status such as 404, a class such as 5xx, nor `failed`.")
    return found


_CONDITIONS: Final = (
    click.option("--listener", default="", metavar="NAME", help="Only exchanges of this listener."),
    click.option("--protocol", default="", metavar="NAME", help="Only this protocol of clients, such as Http2 or bolt."),
    click.option("--route", default="", metavar="NAME", help="Only this route, by its name or its label."),
    click.option("--cluster", default="", metavar="NAME", help="Only this cluster."),
    click.option("--client", default="", metavar="ADDRESS", callback=_client, help="Only this client, or 10.0.0.0/8."),
    click.option("--method", default="", metavar="METHOD", help="Only this method."),
    click.option("--path", "target", default="", metavar="PREFIX", help="Only paths, or services, that begin like this."),
    click.option("--host", default="", metavar="HOST", help="Only this host."),
    click.option(
        "--status", "statuses", multiple=True, metavar="STATUS", callback=_statuses, help="Such as 404, 5xx, or `failed`."
    ),
    click.option("--reason", default="", metavar="WORD", help="Only this reason word, as in the access log."),
    click.option("--slower", type=Duration(), default=0.0, metavar="TIME", help="Only exchanges that took as long: 100ms."),
    click.option(
        "--header", "headers", multiple=True, metavar="NAME=VALUE", callback=_header, help="Only requests with this header."
    ),
    click.option(
        "--sample", type=click.FloatRange(0, 1, min_open=True), default=1.0, metavar="SHARE", help="This share of them."
    ),
    click.option(
        "--bodies", type=Size(MOST_BODY), default=0, metavar="SIZE", help="Also bodies and frames, up to this size each."
    ),
    click.option("--raw-bodies", is_flag=True, help="Do not redact secrets in bodies."),
)


def conditions(command: Command) -> Command:
    """Adds the options that both commands have."""
    for option in reversed(_CONDITIONS):
        command = option(command)
    return command


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """The body of the call."""
    return {**{key: value for key, value in options.items() if key != "target"}, "path": options["target"]}


def _items(path: str, asked: dict[str, Any], raw_bodies: bool) -> Iterator[tuple[str, Any]]:
    """What a tap sends: the kind of each line, and its value. Bodies are without secrets unless `raw_bodies`.

    When another process takes over, the tap continues there, for the rest of its time and number.
    """
    socket = ConfigSource(path).load().admin_socket
    end = time.monotonic() + asked["seconds"]
    count, has_begun = 0, False
    why = "upgrade"
    while why == "upgrade" and (left := end - time.monotonic()) > 0.0:
        why = ""
        rest = {**asked, "seconds": left, "count": max(0, asked["count"] - count)}
        for kind, value in _lines(socket, rest):
            if kind == "done":
                why = value
                continue
            if kind == "exchange":
                count += 1
                if not raw_bodies:
                    hide_in_bodies(value)
            if kind != "tap" or not has_begun:
                yield kind, value
            has_begun = True
        if why == "upgrade":
            warn("another process has taken over: the tap continues there; what the old one still serves is missed")
    if why == "too many taps":
        fail("there are too many taps: end one of them first")
    if why in ("", "stopping"):
        warn("the process has ended the tap: it stops")


def _lines(socket: str, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from pymosn.server.admin_client import CallError, tap_running

    try:
        for line in tap_running(socket, asked, asked["seconds"]):
            yield next(iter(_DECODER.decode(line).items()), ("", None))
    except CallError as error:
        fail(str(error))
    except msgspec.MsgspecError as error:
        fail(f"the process sent a line that is not of a tap: {error}")


@click.command(cls=GoCommand)
@running_config_option()
@conditions
@click.option("--count", type=click.IntRange(0, MOST_RECORDS), default=0, metavar="N", help="End after so many.")
@click.option(
    "--seconds", type=click.FloatRange(0, LONGEST_TAP, min_open=True), default=60.0, show_default=True, help="End then."
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each exchange.")
def tap(path: str, as_json: bool, raw_bodies: bool, **options: Any) -> None:
    """Show the exchanges of a running pymosn that meet all conditions, as they end.

    Secrets are redacted; bodies are not shown unless --bodies is given. The process is found by its admin socket.
    """
    count = 0
    with suppress(KeyboardInterrupt):
        for kind, value in _items(path, _asked(options), raw_bodies):
            if kind == "tap":
                click.echo("pymosn: tapping; Ctrl-C ends it", err=True)
                _warn_of_bodies(options["bodies"], raw_bodies)
            elif kind == "exchange":
                count += 1
                click.echo(msgspec.json.encode(value).decode() if as_json else _text(value))
            elif kind == "dropped":
                warn(f"{value} matching exchanges were dropped: there are too many, or they are not read fast enough")
    if not as_json:
        click.echo(f"pymosn: {count} exchange{'' if count == 1 else 's'}", err=True)


def _text(record: dict[str, Any]) -> str:
    """A record for people."""
    story = {**record["story"], "worker": record["worker"]}
    lines = story_lines(story)
    for mark, part in ((">", record["request"]), ("<", record["response"])):
        lines += [f"  {mark} {field[0]}: {field[1] if len(field) < 3 else '(not text)'}" for field in part["headers"]]
        body = part.get("body")
        if body is not None and body["size"]:
            first, *others = _shown(base64.b64decode(body["data"])).split("\n")
            lines += [f"  {mark} body of {body['size']} bytes: {first}", *(f"    {other}" for other in others)]
        if part.get("frame"):
            lines.append(f"  {mark} frame: {_shown(base64.b64decode(part['frame']))}")
        lines += [f"  {mark} trailer {field[0]}: {field[1]}" for field in part["trailers"] or ()]
        if part.get("reset"):
            lines.append(f"  {mark} broken off: {part['reset']}")
        if part.get("note"):
            lines.append(f"  {mark} {part['note']}")
    return "\n".join([*map(one_line, lines), ""])


def _shown(data: bytes) -> str:
    text = data[:SHOWN_BODY].decode("utf-8", "backslashreplace")
    return text if len(data) <= SHOWN_BODY else f"{text}... ({len(data)} bytes)"


def _warn_of_bodies(size: int, raw_bodies: bool) -> None:
    if size and raw_bodies:
        warn("bodies are not redacted: they may have passwords, tokens and personal data")
    elif size:
        warn(
            "bodies may have secrets: those in JSON, forms, XML and other text are redacted, those in frames of RPC and in "
            "compressed or binary bodies are not"
        )


class _Interrupts:
    """SIGINT and SIGTERM raise KeyboardInterrupt, once, and never while something is written."""

    def __init__(self) -> None:
        self._is_held = False
        self._has_come = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        is_first, self._has_come = not self._has_come, True
        if is_first and not self._is_held:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """From now on they wait."""
        self._is_held = True

    def release(self) -> None:
        """Raises KeyboardInterrupt if one has come meanwhile."""
        self._is_held = False
        if self._has_come:
            raise KeyboardInterrupt


@click.command(cls=GoCommand)
@running_config_option()
@conditions
@click.option("--count", type=click.IntRange(0, MOST_RECORDS), default=0, metavar="N", help="End after so many.")
@click.option(
    "--seconds", type=click.FloatRange(0, LONGEST_TAP, min_open=True), default=60.0, show_default=True, help="End then."
)
@click.option("--max-size", type=Size(1 << 40), default="100MiB", show_default=True, help="End when the file is as large.")
@click.option(
    "--max-rate",
    type=click.FloatRange(1, 100_000),
    default=1000.0,
    show_default=True,
    help="Exchanges per second and worker.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.argument("file")
def record(path: str, file: str, max_size: int, max_rate: float, force: bool, raw_bodies: bool, **options: Any) -> None:
    """Write the exchanges of a running pymosn that meet all conditions to FILE: HAR if it ends in .har, else a tape.

    Only a tape has the frames of RPC protocols. Ends by itself, or with Ctrl-C; the file is then complete. Secrets are
    redacted. Without --bodies no bodies are written, and only requests without one can be replayed.
    """
    asked = {**_asked(options), "rate": max_rate}
    dropped = 0
    is_full = False
    fault: SystemExit | RecordingError | None = None
    try:
        writer = RecordingWriter(file, max_size, force)
    except RecordingError as error:
        fail(str(error))
    interrupts = _Interrupts()
    try:
        with suppress(KeyboardInterrupt):
            for kind, value in _items(path, asked, raw_bodies):
                if kind == "tap":
                    click.echo("pymosn: recording; Ctrl-C ends it", err=True)
                    _warn_of_bodies(options["bodies"], raw_bodies)
                elif kind == "exchange":
                    interrupts.hold()
                    is_full = not writer.add(msgspec.json.encode(value))
                    interrupts.release()
                    if is_full:
                        warn(f"the file has reached its size of {max_size} bytes")
                        break
                dropped += value if kind == "dropped" else 0
            interrupts.hold()
    except (RecordingError, SystemExit) as error:
        interrupts.hold()
        fault = error
    _finish(writer, dropped, fault)


def _finish(writer: RecordingWriter, dropped: int, fault: SystemExit | RecordingError | None) -> None:
    """Completes a recording, also one that a fault has ended."""
    if isinstance(fault, RecordingError):
        warn(f"{fault}: the recording ends here")
    try:
        if fault is not None and not writer.count:
            writer.discard()
        else:
            writer.finish(dropped)
    except RecordingError as error:
        fail(str(error))
    for text, number in (("dropped: too many at a time", dropped), ("left out: HAR cannot hold them", writer.left_out)):
        if number:
            warn(f"{number} exchanges were {text}")
    click.echo(f"pymosn: {writer.count} exchange{'' if writer.count == 1 else 's'} in {writer.path}", err=True)
    if isinstance(fault, SystemExit):
        raise fault
    if fault is not None or not writer.count:
        sys.exit(1)
