"""The contract of the parts that the supervisor runs: health checks, the admin API, log rolling and so on."""

from __future__ import annotations

from pymosn.config.schema import MosnConfig


class Service:
    """One part of the supervisor: started once, given each active configuration, stopped once.

    `name` appears in error messages. `follows_hosts`: whether it also has to follow a configuration in which nothing but
    hosts of clusters differs, which are the most frequent changes.
    """

    name: str
    follows_hosts: bool = False

    async def start(self) -> None:
        """Starts it. Raise to prevent the start of the process: then it and all services before it are stopped."""

    def follow(self, config: MosnConfig) -> None:
        """Adapts to the active configuration, in which discovered addresses have replaced names.

        Called after `start` and after each change. It must not block, and cannot reject the configuration any more: an
        exception is logged and does not affect other services.
        """

    async def stop(self) -> None:
        """Stops it and releases what it holds. Also called after a `start` that failed halfway."""
