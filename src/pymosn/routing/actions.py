"""What a route does with a request (key reference section 6.5)."""

from __future__ import annotations

import random

from pymosn.api.routing import RouteAction
from pymosn.core.message import RequestHead


class Forward(RouteAction):
    """Sends the request to a cluster; the reply's head must come within `timeout` seconds of the request's end."""

    def __init__(self, cluster: str, timeout: float) -> None:
        self.cluster = cluster
        self.timeout = timeout

    def choose_cluster(self) -> str:
        """The name of the cluster for one request."""
        return self.cluster


class ForwardWeighted(Forward):
    """Draws one of several clusters, in proportion to their weights; one of weight 0 is never drawn."""

    def __init__(self, clusters: list[tuple[str, int]], timeout: float) -> None:
        """Raises ValueError when no cluster has a weight."""
        self._bounds: list[int] = []
        self._names: list[str] = []
        self._total = 0
        for name, weight in clusters:
            if weight > 0:
                self._total += weight
                self._bounds.append(self._total)
                self._names.append(name)
        if self._total == 0:
            raise ValueError("the weights of weighted_clusters are all 0")
        super().__init__(self._names[0], timeout)

    def choose_cluster(self) -> str:
        draw = int(random.random() * self._total)
        for place, bound in enumerate(self._bounds):
            if draw < bound:
                return self._names[place]
        return self._names[-1]


class Redirect(RouteAction):
    """Answers with another location; parts that are not given are the request's own, and the query is kept."""

    def __init__(self, status: int, scheme: str, host: str, path: str) -> None:
        self.status = status
        self._scheme = scheme
        self._host = host
        self._path = path

    def location(self, head: RequestHead) -> str:
        """The value of the Location field."""
        scheme = self._scheme or head.scheme
        host = self._host or head.host
        if self._scheme and self._scheme != head.scheme and not self._host:
            old_port = {"http": ":443", "https": ":80"}.get(scheme, "")
            if old_port and host.endswith(old_port):
                host = host[: -len(old_port)]
        query = "" if head.raw_query is None else f"?{head.query}"
        target = f"{self._path or head.path}{query}"
        return f"{scheme}://{host}{target}" if host else target  # an HTTP/1.0 request may name no host


class DirectResponse(RouteAction):
    """Answers by itself."""

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body: bytes = body.encode()
