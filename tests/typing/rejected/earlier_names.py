"""Names of toms-fast: they work, and checkers say what they are called now."""

from __future__ import annotations

from typing import assert_type

from tomskit.celery.context import get_task_id, set_task_id  # E(not pyrefly): deprecated
from tomskit.redis import RedisClientWrapper, RedisConfig
from tomskit.sqlalchemy import Database, DatabaseConfig, db
from tomskit.sqlalchemy.database import DatabaseSession  # E(not pyrefly): deprecated


async def names(config: DatabaseConfig, redis: RedisConfig) -> None:
    assert_type(db, Database)
    sessions = DatabaseSession()  # E(not mypy, pyrefly): deprecated
    sessions.create_session_pool_from_config(config)  # E(not pyrefly): now called open
    await sessions.close_session_pool()  # E(not pyrefly): now called close
    assert_type(redis.REDIS_USE_CLUSTERS, bool)  # E(not pyrefly): now called REDIS_USE_CLUSTER
    print(redis.REDIS_CLUSTERS)  # E(not pyrefly): now called REDIS_CLUSTER_NODES
    print(redis.REDIS_SENTINEL_SERVICE_NAME)  # E(not pyrefly): deprecated
    RedisClientWrapper.initialize(redis)  # E(not pyrefly): deprecated
    await RedisClientWrapper.shutdown()  # E(not pyrefly): deprecated
    set_task_id("id")  # E(not mypy, pyrefly): deprecated
    assert_type(get_task_id(), str | None)  # E(not mypy, pyrefly): deprecated


def wrong(redis: RedisConfig) -> None:
    RedisConfig(REDIS_USE_CLUSTERS=True)  # E: the argument has its present name
    print(redis.REDIS_CLUSTER)  # E: no such setting
