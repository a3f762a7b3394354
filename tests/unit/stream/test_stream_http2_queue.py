"""Content that waits in a stream of HTTP/2."""

import random

from pymosn.stream.http2.stream import Http2Stream


def test_any_pieces_are_taken_in_any_sizes() -> None:
    draw = random.Random(7)
    for _ in range(200):
        stream = Http2Stream(65535, 65535)
        sent = received = b""
        for _ in range(draw.randrange(1, 600)):
            if draw.random() < 0.6:
                chunk = draw.randbytes(draw.randrange(1, 9))
                stream.add(chunk)
                sent += chunk
            elif stream.unsent > 0:
                received += stream.take(draw.choice([int(stream.unsent), draw.randrange(1, int(stream.unsent) + 1)]))
            assert stream.unsent == len(sent) - len(received)
        if stream.unsent > 0:
            received += stream.take(stream.unsent)
        assert received == sent
