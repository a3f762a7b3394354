"""What listeners and clusters have in common: settings of their TCP connections."""

from typing import Annotated

from pymosn.filters.settings import Block, Duration, Unsigned, own


class TcpKeepalive(Block, kw_only=True):
    """TCP keepalive: probes by which the kernel detects a peer that has vanished. Whole seconds.

    Data that is not acknowledged for `idle + probes * interval` ends the connection too (TCP_USER_TIMEOUT).
    """

    idle: Annotated[Duration, own("silence before the first probe")] = 30.0
    interval: Annotated[Duration, own("time between two probes")] = 10.0
    probes: Annotated[Unsigned, own("consecutive probes without an answer that close the connection")] = 3
