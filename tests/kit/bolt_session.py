"""A Bolt connection that is in use: the opening of conversations in Bolt."""

from typing import Any

from tests.kit import bolt_frames as bolt
from tests.kit.peers import Peer
from tests.kit.starting import Start
from tests.kit.talk import Talk

BOLT: dict[str, Any] = {"protocols": ["bolt"]}


def begin(start: Start, **options: Any) -> tuple[Talk, Peer, Peer]:
    """A client whose first request has been answered, and the upstream connection it used; its id there was 1."""
    talk = start(**{**BOLT, **options})
    client, upstream = talk.forwarded(bolt.request(1))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    return talk, client, upstream
