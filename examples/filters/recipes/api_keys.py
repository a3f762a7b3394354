"""Only clients with a known API key pass; the upstream is told whose key it is."""

import hashlib

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`keys`: SHA-256 of each key in hex, and the name of its owner; the keys themselves stand in no file."""

    keys: dict[str, str]
    header: str = "x-api-key"
    owner_header: str = "x-client"


class ApiKeys(StreamFilter):
    """Answers 401 to requests without a known API key, and names the owner of the key to the upstream."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config

    def on_request(self, exchange: Exchange) -> Reply | None:
        headers = exchange.request.headers
        key = headers.get(self.config.header)
        # A look-up by digest tells nothing of a key by its time.
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() if key else ""
        owner = self.config.keys.get(digest)
        if owner is None:
            return Reply(401, "a valid API key is needed\n", {"content-type": "text/plain", "www-authenticate": "ApiKey"})
        headers.remove(self.config.header)
        headers[self.config.owner_header] = owner  # in place of what the client may have sent
        return None
