"""Rewrites path, query, host and headers of requests."""

import re
from urllib.parse import parse_qsl, urlencode

import msgspec

from pymosn.api import Exchange, StreamFilter


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
    """Rewrites path, query, host and headers of requests before routing."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config
        # An invalid pattern prevents the start, with its line in the configuration.
        self.rules = [(re.compile(rule.path), rule.to) for rule in config.rules]

    def on_request(self, exchange: Exchange) -> None:
        request = exchange.request
        for pattern, to in self.rules:
            match = pattern.fullmatch(request.path)
            if match is not None:
                request.headers["x-original-path"] = request.path
                request.path = match.expand(to)
                break
        if self.config.without and request.query:
            pairs = parse_qsl(request.query, keep_blank_values=True)
            request.query = urlencode([pair for pair in pairs if pair[0] not in self.config.without])
        if self.config.host is not None:
            request.host = self.config.host
        for name, value in self.config.headers.items():
            request.headers[name] = value
