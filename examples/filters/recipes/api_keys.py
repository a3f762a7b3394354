"""Requires a known API key, and adds its owner's name for the upstream."""

import hashlib

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`keys`: maps the SHA-256 of each key (hex) to its owner, so that the keys themselves are in no file."""

    keys: dict[str, str]
    header: str = "x-api-key"
    owner_header: str = "x-client"


class ApiKeys(StreamFilter):
    """Answers 401 to requests without a known API key, and adds the owner of the key for the upstream."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config

    def on_request(self, exchange: Exchange) -> Reply | None:
        headers = exchange.request.headers
        key = headers.get(self.config.header)
        # Looking up a digest reveals nothing about a key through timing.
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() if key else ""
        owner = self.config.keys.get(digest)
        if owner is None:
            return Reply(401, "a valid API key is needed\n", {"content-type": "text/plain", "www-authenticate": "ApiKey"})
        headers.remove(self.config.header)
        headers[self.config.owner_header] = owner  # replaces any value that the client sent
        return None
