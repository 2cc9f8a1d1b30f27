"""The life of resource providers: started with an event loop, entered around each task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar
from weakref import WeakSet

from tomskit.errors import ConfigurationError, ProviderError
from tomskit.protocols import ResourceProvider

__all__ = ("Resources",)

T = TypeVar("T")

logger: Final = logging.getLogger(__name__)

SHUTDOWN_SECONDS: Final = 10.0
"""What a provider gets to stop: a server that does not answer must not keep a process alive."""


class Resources:
    """An app's providers, as one thing that is started, stopped and entered.

    Args:
        providers: Started in this order and stopped in reverse.

    Raises:
        ConfigurationError: Two providers have the same name.
    """

    def __init__(self, providers: Iterable[ResourceProvider]) -> None:
        self.providers: tuple[ResourceProvider, ...] = tuple(providers)
        names = [provider.name for provider in self.providers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError(
                f"Two resource providers are called {twice[0]!r}; names have to be unique."
            )
        self._running: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def only(self, *, without: Iterable[str]) -> Resources:
        """The same providers without those of these names."""
        dropped = set(without)
        return Resources(p for p in self.providers if p.name not in dropped)

    async def start(self) -> None:
        """Start every provider for the running event loop.

        Raises:
            ProviderError: One did not start. Those before it have been stopped again.
        """
        started: list[ResourceProvider] = []
        for provider in self.providers:
            try:
                await provider.startup()
            except BaseException as exc:
                await _stop(started)
                if not isinstance(exc, Exception):
                    raise
                raise ProviderError(
                    provider.name,
                    f"The resource provider {provider.name!r} did not start: {exc!r}",
                ) from exc
            started.append(provider)
        self._running.add(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Stop every provider for the running event loop; what one raises is logged."""
        self._running.discard(asyncio.get_running_loop())
        await _stop(self.providers)

    async def run(self, awaitable: Awaitable[T]) -> T:
        """Await `awaitable` within the scopes of all providers.

        On a loop for which `start` was not called, as with a runtime that makes a loop for each
        call, the providers are started before and stopped after.
        """
        if asyncio.get_running_loop() in self._running:
            return await self.scoped(awaitable)
        await self.start()
        try:
            return await self.scoped(awaitable)
        finally:
            await self.stop()

    async def scoped(self, awaitable: Awaitable[T]) -> T:
        """Await `awaitable` within the scopes of all providers, on a loop that they run on.

        When it raises, that is what comes out: an error in leaving a scope is logged and never
        takes its place. When it returns and a scope fails to close, that error comes out.
        """
        entered: list[tuple[str, AbstractAsyncContextManager[object]]] = []
        try:
            for provider in self.providers:
                scope = provider.task_scope()
                await scope.__aenter__()
                entered.append((provider.name, scope))
            result = await awaitable
            while entered:
                _, scope = entered.pop()
                await scope.__aexit__(None, None, None)
        except BaseException as exc:
            while entered:
                name, scope = entered.pop()
                try:
                    await scope.__aexit__(type(exc), exc, exc.__traceback__)
                except Exception as error:
                    if error is not exc:
                        logger.error(  # noqa: TRY400 (the error to show is not the current one)
                            "The resource provider %r failed to clean up after a task that raised %r",
                            name,
                            exc,
                            exc_info=error,
                        )
            raise
        return result


async def _stop(providers: Iterable[ResourceProvider]) -> None:
    for provider in reversed(tuple(providers)):
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await provider.shutdown()
        except Exception:
            logger.exception("The resource provider %r did not stop cleanly", provider.name)
