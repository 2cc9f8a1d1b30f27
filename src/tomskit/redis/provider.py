"""Redis as a resource of tasks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from tomskit.redis.config import RedisConfig
from tomskit.redis.redis_pool import clients

__all__ = ("RedisProvider",)

_NO_SCOPE = nullcontext()


class RedisProvider:
    """Opens ``redis_client`` for an event loop; all tasks of the loop share it."""

    name = "redis"

    def __init__(self, config: RedisConfig) -> None:
        self.config = config

    async def startup(self) -> None:
        """Make the client. Nothing connects before a task uses it."""
        clients.open(self.config)

    async def shutdown(self) -> None:
        """Close all connections of the running event loop."""
        await clients.close()

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        """Nothing to do around a task."""
        return _NO_SCOPE
