"""Rewrites path, query, host and headers of requests."""

import re
from urllib.parse import unquote_plus

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter

ORIGINAL = "x-original-path"


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """`path`: a regular expression for the whole path; `to`: its replacement, with groups as `\\1`."""

    path: str
    to: str


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """The first matching rule is applied. `without`: query parameters to remove."""

    rules: list[Rule] = []
    host: str | None = None
    headers: dict[str, str] = {}
    without: list[str] = []


class Rewriting(StreamFilter):
    """Rewrites path, query, host and headers of requests before routing. The bytes of everything else are kept."""

    Config = Settings
    protocols = ("Http1", "Http2")

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        # Whatever is invalid prevents the start, with its line in the configuration.
        self.rules = [(compiled(rule), rule.to) for rule in config.rules]
        self.without = frozenset(config.without)
        Reply(200, b"", config.headers)  # raises HeaderError

    def on_request(self, exchange: Exchange) -> Reply | None:
        request = exchange.request
        request.headers.remove(ORIGINAL)  # only this filter may tell the upstream
        for pattern, to in self.rules:
            match = pattern.fullmatch(request.path)
            if match is not None:
                original = request.path
                try:
                    request.path = match.expand(to)
                except ValueError:
                    return Reply(400, "the path cannot be rewritten\n")
                request.headers[ORIGINAL] = original
                break
        if self.without and request.query:
            query = without(request.query, self.without)
            if query != request.query:
                request.query = query
        if self.config.host is not None:
            request.host = self.config.host
        for name, value in self.config.headers.items():
            request.headers[name] = value
        return None


def compiled(rule: Rule) -> re.Pattern[str]:
    """The rule's expression. Raises ValueError for an invalid one, and for a replacement that fits no path."""
    try:
        pattern = re.compile(rule.path)
        empty = re.compile(f"(?:{rule.path})|").match("")
        assert empty is not None
        empty.expand(rule.to)
    except (re.error, IndexError) as error:
        raise ValueError(f"{rule.path!r} to {rule.to!r}: {error}") from error
    if not rule.to.startswith("/"):
        raise ValueError(f"the replacement must begin with /: {rule.to!r}")
    return pattern


def without(query: str, names: frozenset[str]) -> str:
    """The query without some parameters. The others, their escapes and their order are not touched."""
    return "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in names)
