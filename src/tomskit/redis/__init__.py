"""A redis.asyncio client for every task."""

from tomskit.redis.config import RedisConfig
from tomskit.redis.provider import RedisProvider
from tomskit.redis.redis_pool import RedisClientWrapper, redis_client

__all__ = ("RedisClientWrapper", "RedisConfig", "RedisProvider", "redis_client")
