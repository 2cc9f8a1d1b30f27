"""A redis.asyncio client for every task."""

from tomskit.redis.config import RedisConfig
from tomskit.redis.provider import RedisProvider

__all__ = ("RedisConfig", "RedisProvider")
