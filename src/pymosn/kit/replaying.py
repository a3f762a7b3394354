"""`pymosn replay`: sends recorded requests to an address and reports how the responses differ from the recorded ones."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import click

from pymosn.kit.command_line import GoCommand
from pymosn.kit.commands import fail, json_text
from pymosn.kit.mosn_flags import Seconds, warn

#: Names and values of header fields.
Fields = list[list[str]]

#: Exit codes: all responses are the recorded ones; some differ, or there were none.
SAME: Final = 0
DIFFERENT: Final = 1


class Speed(click.ParamType[float]):
    """A factor, or `max`."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == "max":
            return 0.0
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0.001 <= speed <= 100_000:
            self.fail(f"{value!r} is neither a factor from 0.001 to 100000 nor `max`.", param, ctx)
        return speed


def _address(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int, bool]:
    """The host, the port, and whether TLS is spoken."""
    rest, is_tls = value.rstrip("/"), False
    for scheme, default in (("http://", ":80"), ("https://", ":443")):
        if rest.startswith(scheme):
            rest, is_tls = rest.removeprefix(scheme), scheme == "https://"
            if ":" not in rest.rpartition("]")[2]:
                rest += default
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or "@" in host or not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65535):
        raise click.BadParameter(f"{value!r} is neither HOST:PORT nor https://HOST:PORT.")
    return host, int(port), is_tls


def _contexts(ca: str | None, insecure: bool) -> Callable[[str], ssl.SSLContext]:
    """Makes the TLS contexts. `ca`: a file of certificates to trust instead of those of the system."""

    @lru_cache
    def context(alpn: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=ca)
        if insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        if alpn:
            made.set_alpn_protocols([alpn])
        return made

    try:
        context("")
    except OSError as error:
        fail(f"{ca}: {error.strerror or error}")
    return context


def _fields(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Fields:
    found = []
    for value in values:
        name, colon, text = value.partition(":")
        if not colon or not name.strip() or not value.isprintable():
            raise click.BadParameter(f"{value!r} is not a field such as 'Authorization: Bearer ...'.")
        found.append([name.strip(), text.strip()])
    return found


@click.command(cls=GoCommand)
@click.argument("file")
@click.option(
    "--to",
    "address",
    required=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where to send them; with TLS: https://...",
)
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="Trust these certificates only.")
@click.option("--insecure", is_flag=True, help="Do not verify the certificate.")
@click.option("--server-name", default="", metavar="NAME", help="For SNI and the certificate; default: the host of --to.")
@click.option("--speed", type=Speed(), default="1", show_default=True, help="2: twice as fast as recorded; max: no pauses.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True, help="Requests at a time.")
@click.option("--timeout", type=Seconds(), default=30.0, show_default=True, help="Seconds for one exchange.")
@click.option("--header", "headers", multiple=True, metavar="FIELD", callback=_fields, help="Set a field of all requests.")
@click.option("--ignore-header", "ignored", multiple=True, metavar="NAME", help="Do not compare this field either.")
@click.option("--compare-all", is_flag=True, help="Also compare fields such as Date and X-Request-Id.")
@click.option("--only", default="", metavar="PREFIX", help="Only requests whose path or service begins like this.")
@click.option("--http", type=click.Choice(["1", "2"]), help="Send requests of HTTP in this version; default: as recorded.")
@click.option("--show", type=click.IntRange(0), default=20, show_default=True, help="Exchanges whose differences are shown.")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def replay(
    file: str,
    address: tuple[str, int, bool],
    ca: str | None,
    insecure: bool,
    server_name: str,
    speed: float,
    concurrency: int,
    timeout: float,
    headers: Fields,
    ignored: tuple[str, ...],
    compare_all: bool,
    only: str,
    http: str | None,
    show: int,
    as_json: bool,
) -> None:
    """Send the requests of FILE, a tape or HAR of `pymosn record`, to another address, and compare the responses.

    Compares status, fields, trailers and body; JSON by its values. Exits with 1 if a response differs. Redacted values are
    sent as placeholders: set real ones with --header.
    """
    # Only here: other commands do not need what a replay does.
    from pymosn.kit.replay import Replay, has_placeholder
    from pymosn.kit.replay_report import as_values, print_report
    from pymosn.kit.replay_wire import Target
    from pymosn.recording import DEFAULT_IGNORED, RecordingError, read_recording

    try:
        exchanges = [one for one in read_recording(file) if (one.request.service or one.request.target).startswith(only)]
    except RecordingError as error:
        fail(str(error))
    if not exchanges:
        fail(f"{file} has no exchanges{' that begin so' if only else ''}")
    replaced = {field[0].lower() for field in headers}
    count = sum(has_placeholder(one, replaced) for one in exchanges)
    if count:
        warn(f"{count} requests have redacted values, which are sent as such: set real ones with --header")
    names = {name.lower() for name in ignored} | (set() if compare_all else DEFAULT_IGNORED)
    host, port, is_tls = address
    if not is_tls and (ca or insecure or server_name):
        raise click.UsageError("--ca, --insecure and --server-name need --to https://...")
    tls = _contexts(ca, insecure) if is_tls else None
    target = Target(host, port, f"Http{http}" if http else "", headers, tls, server_name)
    work = Replay(target, speed=speed, concurrency=concurrency, timeout=timeout, ignored=names)
    try:
        asyncio.run(work.run(exchanges))
    except KeyboardInterrupt:
        warn(f"interrupted after {len(work.results)} of {len(exchanges)} exchanges")
    results = [result for result in work.results if result.is_compared or result.error or result.skipped]
    if as_json:
        click.echo(json_text(as_values(results)))
    else:
        print_report(results, show)
    sent = [result for result in results if not result.skipped]
    is_whole = len(results) == len(exchanges)
    sys.exit(SAME if is_whole and sent and all(result.is_same for result in sent) else DIFFERENT)
