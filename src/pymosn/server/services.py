"""Runs services: started in order, stopped in reverse."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, Log


class Services:
    """The running services, and the configuration that they follow."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._running: list[Service] = []
        self._stopped: set[str] = set()
        #: Whether a service could not be stopped.
        self.stop_failed = False
        self._config: MosnConfig | None = None

    @asynccontextmanager
    async def running(self, services: Sequence[Service]) -> AsyncIterator[None]:
        """Starts `services` in order, and stops them in reverse on exit, or when one of them raises in `start`."""
        async with AsyncExitStack() as stack:
            for service in services:
                stack.push_async_callback(self._stop, service)
                await service.start()
                self._running.append(service)
                if self._config is not None:
                    self._follow(service, self._config)
            yield

    def follow(self, config: MosnConfig, only_hosts: bool = False) -> None:
        """Gives a new configuration to all running services, and to later ones when they have started.

        `only_hosts`: nothing but hosts of clusters differs.
        """
        self._config = config
        for service in self._running:
            if service.follows_hosts or not only_hosts:
                self._follow(service, config)

    async def stop_early(self, names: Collection[str]) -> None:
        """Stops the services of these names before the others, in reverse order."""
        for service in [service for service in reversed(self._running) if service.name in names]:
            await self._stop(service)
            self._stopped.add(service.name)

    def _follow(self, service: Service, config: MosnConfig) -> None:
        try:
            service.follow(config)
        except Exception as error:
            self._log.write(ERROR, f"{service.name} cannot follow the new configuration: {describe(error)}")

    async def _stop(self, service: Service) -> None:
        if service.name in self._stopped:
            return
        if service in self._running:
            self._running.remove(service)
        try:
            await service.stop()
        except Exception as error:
            self.stop_failed = True
            self._log.write(ERROR, f"{service.name} cannot be stopped: {describe(error)}")
