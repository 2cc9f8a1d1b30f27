"""Deployments of the integration tests, and workers that many of them share."""

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import kombu.pools
import pytest
from coverage import Coverage
from kombu.connection import ConnectionPool

from tests.integration.typed_service import client as client_app
from tests.support.async_client import MANY_DATABASES, serve
from tests.support.asyncio_pool import WIDE, start
from tests.support.deployment import AWKWARD, TIMEOUT, Deployment, deploy, eventually
from tests.support.remote import Events, monitor
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.servers.redis import fresh_redis_db
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery
from tomskit.celery.fast_redis.parts import Parts, fast_parts, kombu_parts

__all__ = ("TIMEOUT", "Deployment", "deploy", "eventually")

REPETITIVE = frozenset(
    {
        "test_acknowledged_soon",
        "test_async_results",
        "test_asyncio_pool_collector",
        "test_asyncio_pool_identity",
        "test_asyncio_pool_limits",
        "test_asyncio_pool_outages",
        "test_asyncio_pool_rabbitmq",
        "test_asyncio_pool_stop",
        "test_asyncio_pool_tasks",
        "test_celery_features",
        "test_chords_of_tasks",
        "test_conversation",
        "test_crashes",
        "test_demo",
        "test_execution",
        "test_fast_redis",
        "test_fast_redis_features",
        "test_fast_redis_model",
        "test_fastapi_example",
        "test_faults_failover",
        "test_faults_loading",
        "test_flask_example",
        "test_forks",
        "test_generated",
        "test_interop",
        "test_lean_path",
        "test_lean_path_generated",
        "test_lifecycle",
        "test_limits",
        "test_matrix",
        "test_once_crashes",
        "test_once_savepoints",
        "test_once_web",
        "test_plugs",
        "test_readme",
        "test_screen",
        "test_sentinel",
        "test_settings",
        "test_shared_errors",
        "test_values",
    }
)
"""Modules that run the same lines many times, for other values or pools.

Other tests run these lines and branches as well (as the contexts of coverage show), and a worker that is
killed tells nothing of its own. Coverage would take half of the processor time: it asks for the current
greenlet whenever a function is called, of any package, and whenever it returns.
"""


@contextmanager
def unmeasured() -> Generator[None]:
    """Coverage measures neither this process nor the workers that it starts meanwhile."""
    measuring = Coverage.current()
    if measuring is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
            patch.delenv(name)
        measuring.stop()
        try:
            yield
        finally:
            measuring.start()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests: what they import of tomskit, workers import as well."""
    with unmeasured():
        return (yield)


@pytest.fixture(scope="module", autouse=True)
def unmeasured_where_repetitive(request: pytest.FixtureRequest) -> Iterator[None]:
    with unmeasured() if request.path.stem in REPETITIVE else nullcontext():
        yield


@pytest.fixture(scope="module", autouse=True)
def closed_pools() -> Iterator[None]:
    """Close the pooled connections of the apps of a module. They would be hundreds in the end.

    kombu keeps them when an app is closed, for the next one that uses the same broker, and in these tests it is
    another one each time.
    """
    yield
    for pool in cast("Iterable[ConnectionPool]", cast("Any", kombu.pools)._all_pools()):
        pool.force_close_all(close_pool=False)
        # The client of a service that several modules share takes a connection from it again.
        pool.setup()


@pytest.fixture
def deployment(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    with deploy(redis_server, mariadb_server) as fresh:
        yield fresh


@pytest.fixture(scope="session", params=["prefork", "solo", "threads", "asyncio"])
def service(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    """A deployment with tables and a running worker, for tests that leave both as they are."""
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.make_tables()
        pool: Pool = request.param
        # The solo pool does one task at a time by its nature.
        fresh.running = fresh.worker(pool, 2, "--task-events")
        yield fresh


@pytest.fixture(scope="session")
def awkward_redis() -> Iterator[dict[str, str]]:
    """The configuration for a Redis with an awkward password."""
    with RedisServer(password=AWKWARD, config=[("databases", "2000")]) as server:
        where = {"HOST": server.host, "PORT": str(server.port), "PASSWORD": AWKWARD}
        roles = ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER")
        yield {f"{role}_REDIS_{key}": value for role in roles for key, value in where.items()}


@pytest.fixture(scope="session")
def wide(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    """A worker with room for many tasks, which the tests leave as it is."""
    with deploy(redis_server, mariadb_server) as fresh:
        yield start(fresh, WIDE, "--task-events", LOG_SIGNALS="yes")


@pytest.fixture(scope="session")
def narrow(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    """A worker that runs one task at a time, which the tests leave as it is."""
    with deploy(redis_server, mariadb_server) as fresh:
        yield start(fresh, 1, "--task-events", LOG_SIGNALS="yes")


@pytest.fixture(scope="session")
def wide_events(wide: Deployment) -> Iterator[Events]:
    """The events that the worker sends, none of which is missed."""
    with monitor(wide) as seen:
        yield seen


@pytest.fixture(scope="session")
def narrow_events(narrow: Deployment) -> Iterator[Events]:
    """The events that the worker sends, none of which is missed."""
    with monitor(narrow) as seen:
        yield seen


@pytest.fixture(scope="session")
def quiet_redis() -> Iterator[RedisServer]:
    """A server of which nobody else asks anything."""
    with RedisServer(config=MANY_DATABASES) as server:
        yield server


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    """A server of the module's own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own(running: RedisServer) -> RedisServer:
    """The module's own server, with nothing in it."""
    running.flush()
    return running


@pytest.fixture
def fresh_server() -> Iterator[RedisServer]:
    """A server of the test's own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    """A broker's database that nobody has used."""
    return fresh_redis_db(redis_server).broker_url


@pytest.fixture(params=["fast path", "kombu's path"])
def parts(request: pytest.FixtureRequest) -> Parts:
    """Those of a pool whose tasks run in other processes or threads."""
    return fast_parts(tasks_run="elsewhere") if request.param == "fast path" else kombu_parts()


@pytest.fixture(scope="session")
def async_service(quiet_redis: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    with serve(quiet_redis, mariadb_server) as deployment:
        yield deployment


@pytest.fixture
def async_app(async_service: Deployment, clean_process: None) -> Iterator[AsyncCelery]:
    with client_app(async_service.environment) as made:
        made.set_current()
        yield made
