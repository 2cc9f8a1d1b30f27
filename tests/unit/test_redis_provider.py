"""RedisProvider: Redis as a resource of tasks."""

import asyncio

import pytest

from tomskit.errors import NotInitializedError
from tomskit.protocols import ResourceProvider
from tomskit.redis import RedisConfig
from tomskit.redis.provider import RedisProvider
from tomskit.redis.redis_pool import clients

CONFIG = RedisConfig(REDIS_HOST="127.0.0.1", REDIS_PORT=1)


def test_it_is_a_provider_by_the_name_of_redis() -> None:
    provider = RedisProvider(CONFIG)

    assert isinstance(provider, ResourceProvider)
    assert provider.name == "redis"
    assert provider.config is CONFIG


def test_the_client_is_there_between_startup_and_shutdown() -> None:
    async def main() -> None:
        provider = RedisProvider(CONFIG)
        with pytest.raises(NotInitializedError):
            clients.current()
        await provider.startup()  # connects to nothing: nobody listens on that port
        clients.current()
        await provider.shutdown()
        with pytest.raises(NotInitializedError):
            clients.current()

    asyncio.run(main())


def test_all_tasks_of_a_loop_share_the_client() -> None:
    async def main() -> None:
        provider = RedisProvider(CONFIG)
        await provider.startup()

        async def task() -> object:
            async with provider.task_scope():
                return clients.current()

        first, second = await asyncio.gather(task(), task())
        await provider.shutdown()
        assert first is second

    asyncio.run(main())


def test_shutting_down_what_was_not_started_does_nothing() -> None:
    asyncio.run(RedisProvider(CONFIG).shutdown())
