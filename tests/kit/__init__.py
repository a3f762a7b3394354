"""The kit of the tests: the fakes and rigs that several of them share.

talk.py            Talk: layers 2 to 4 of one worker between fake peers, on a fake clock
starting.py        Start: the type of the fixture `start`, which begins a Talk
peers.py           Peer, Dial: a client or an upstream, and a connection that the proxy asked for
transport.py       FakeTransport, FakeLoop: the event loop's side of connections
h2_frames.py       frames of HTTP/2, right and wrong; h2_end.py: one end of a connection, which checks the proxy
h2_peers.py        clients and upstreams that speak HTTP/2; h2_text.py: those that speak HTTP/1 text with the test
http1_text.py      messages in HTTP/1 text as what they say, whatever carries them
chunks.py          merge_chunks: messages that differ only in how their chunks are cut
messages.py        GET, OK, DATE: bytes that most conversations need
options.py         options of listeners and filters with defaults
fakes.py           FakeClock, Lines, Outcomes, Recorder: clock, log, access log and filter
bolt_session.py    a Bolt connection whose first request has been answered
bolt_frames.py, dubbo_frames.py, rpc_wires.py    RPC frames, written from the protocols' descriptions
client_hello.py    recorded client hellos, and built ones whose every part can be wrong
tls.py             a connection with TLS and a real peer in memory; tls_wire.py: the same below a Talk
tls_streams.py     clients with TLS for asyncio, which can half-close and truncate
tls_records.py     records of TLS 1.3 made by hand
tls_facts.py       facts of TLS connections and client certificates
fake_redis.py      a Redis server for recipes
unix_http.py       HTTP over a unix socket
"""

from tests.kit.chunks import merge_chunks
from tests.kit.fakes import FakeClock, Lines, Outcomes, Recorder
from tests.kit.messages import DATE, GET, OK, WALL
from tests.kit.peers import Dial, Peer
from tests.kit.starting import Start
from tests.kit.talk import Talk, forward

__all__ = [
    "DATE",
    "GET",
    "OK",
    "WALL",
    "Dial",
    "FakeClock",
    "Lines",
    "Outcomes",
    "Peer",
    "Recorder",
    "Start",
    "Talk",
    "forward",
    "merge_chunks",
]
