"""Fixtures for all tests. A server is started when the first test asks for it."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import settings
from tests.support.servers import MariaDBServer, RedisDb, RedisServer, SentinelCluster

settings.register_profile("default", derandomize=True, deadline=None)
settings.load_profile("default")

_turns = count()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        yield server


@pytest.fixture(scope="session")
def sentinel_cluster() -> Iterator[SentinelCluster]:
    with SentinelCluster() as cluster:
        yield cluster


@pytest.fixture
def redis_db(redis_server: RedisServer) -> RedisDb:
    """Two databases of `redis_server` that were just emptied."""
    # In turn through the 16, so what an earlier test left running does not meet the next one.
    broker_db = next(_turns) % 8 * 2
    result_db = broker_db + 1
    redis_server.flush(broker_db, result_db)
    return RedisDb(redis_server.host, redis_server.port, broker_db, result_db)
