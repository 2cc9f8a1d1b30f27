"""Fixtures for all tests. A server is started when the first test asks for it."""

import gc
from collections.abc import Iterator

import pytest
from coverage import Coverage
from hypothesis import settings

from tests.support.measuring import let_threads_end
from tests.support.patience import patience
from tests.support.servers import MariaDBServer, RedisDb, RedisServer, SentinelCluster
from tests.support.servers.postgres import PostgresServer, postgres_missing
from tests.support.servers.rabbitmq import RabbitMQServer, rabbitmq_missing
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery import AsyncRuntime, celery_context

settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("quick", derandomize=True, deadline=None, max_examples=33)
settings.load_profile("default")

if Coverage.current() is not None:
    let_threads_end()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let a test take longer on a slow machine; a process of xdist is told how long."""
    if config.getoption("timeout") is None:
        config.option.timeout = patience(float(config.getini("timeout")))


def pytest_collection_finish() -> None:
    """Many tests collect garbage: the tests themselves and all that they import need no look."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    # Enough for every test to have databases that no other has used.
    with RedisServer(config=[("databases", "2000")]) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    missing = postgres_missing()
    if missing is not None:
        pytest.skip(missing)
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def sentinel_cluster() -> Iterator[SentinelCluster]:
    with SentinelCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    missing = rabbitmq_missing()
    if missing is not None:
        pytest.skip(missing)
    with RabbitMQServer() as server:
        yield server


@pytest.fixture
def redis_db(redis_server: RedisServer) -> RedisDb:
    """Two databases of `redis_server` that nobody has used."""
    return fresh_redis_db(redis_server)


@pytest.fixture
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither an app nor a runtime in this process, before and after."""
    monkeypatch.setattr("celery._state._tls.current_app", None)
    monkeypatch.setattr("celery._state.default_app", None)
    token = celery_context.set(None)
    yield
    AsyncRuntime.shutdown()
    celery_context.reset(token)
