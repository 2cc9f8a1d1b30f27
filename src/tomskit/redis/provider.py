"""Redis as a resource of tasks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from tomskit.redis.config import RedisConfig
from tomskit.redis.redis_pool import clients

__all__ = ("RedisProvider",)

_NO_SCOPE = nullcontext()


class RedisProvider:
    """Opens ``redis_client`` for an event loop; all tasks on that loop share it."""

    name = "redis"

    def __init__(self, config: RedisConfig) -> None:
        self.config = config

    async def startup(self) -> None:
        """Make the client. It connects when a task first uses it."""
        clients.open(self.config)

    async def shutdown(self) -> None:
        """Close all connections of the running event loop."""
        await clients.close()

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        """A scope that does nothing: tasks share the client."""
        return _NO_SCOPE
