"""Choosing a host (key reference section 8.3)."""

from __future__ import annotations

import random

from mypy_extensions import i64

from pymosn.api.upstream import Balancer, Host
from pymosn.core.registry import Registry


class RoundRobin(Balancer):
    """Each host in turn, from a random start; unhealthy ones and the one just tried are stepped over."""

    def __init__(self, hosts: list[Host]) -> None:
        super().__init__(hosts)
        self._next: i64 = i64(random.randrange(len(hosts))) if hosts else 0

    def choose(self, tried: Host | None) -> Host | None:
        hosts = self.hosts
        count: i64 = len(hosts)
        passes: i64 = 0
        while passes < count:
            at: i64 = self._next
            if at >= count:
                at = 0
            self._next = at + 1
            host = hosts[at]
            if host.is_healthy and host is not tried:
                return host
            passes += 1
        return tried if tried is not None and tried.is_healthy else None


class Random(Balancer):
    """Any host with equal chance; when that one cannot be used, the next one that can."""

    def choose(self, tried: Host | None) -> Host | None:
        hosts = self.hosts
        count: i64 = len(hosts)
        if count == 0:
            return None
        at: i64 = int(random.random() * len(hosts))
        passes: i64 = 0
        while passes < count:
            host = hosts[at]
            if host.is_healthy and host is not tried:
                return host
            at += 1
            if at >= count:
                at = 0
            passes += 1
        return tried if tried is not None and tried.is_healthy else None


def balancers() -> Registry[type[Balancer]]:
    """A new table of all balancers, by `lb_type`."""
    registry: Registry[type[Balancer]] = Registry("balancer")
    registry.add("LB_ROUNDROBIN", RoundRobin)
    registry.add("LB_RANDOM", Random)
    return registry
