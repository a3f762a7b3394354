"""How conversations in Bolt begin."""

from collections.abc import Callable
from typing import Any

from rig import Peer, Talk
from tests import bolt_frames as bolt

Start = Callable[..., Talk]
BOLT: dict[str, Any] = {"protocols": ["bolt"]}


def begin(start: Start, **wishes: Any) -> tuple[Talk, Peer, Peer]:
    """A client whose first request has been answered, and the connection that it went through; its id there was 1."""
    talk = start(**{**BOLT, **wishes})
    client = talk.connect()
    client.sends(bolt.request(1))
    upstream = talk.expect_dial()
    upstream.receives(bolt.request(1))
    upstream.sends(bolt.response(1))
    client.receives(bolt.response(1))
    return talk, client, upstream
