"""A deployment for each test: empty Redis databases, an empty MariaDB database, a client."""

import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest
from celery import Celery
from celery.backends.redis import RedisBackend
from celery.result import AsyncResult
from coverage import Coverage

from tests.conftest import fresh_redis_db
from tests.support.patience import patience, wait_until
from tests.support.servers import MariaDBServer, RedisDb, RedisServer
from tests.support.workers import Pool, Worker
from tomskit.celery import CeleryConfig

SERVICE = "tests.integration.service"
TIMEOUT = patience(30.0)
"""Seconds that a test waits for a result."""

REPETITIVE = (
    "test_asyncio_pool_collector",
    "test_crashes",
    "test_demo",
    "test_generated",
    "test_matrix",
    "test_values",
)
"""How the names of modules begin that run the same lines many times, for other values or pools.

Other tests run these lines as well, and a worker that is killed tells nothing of its own. But coverage takes half of the processor time: it asks for the
current greenlet whenever a function is called, of any package, and whenever it returns.
"""

_databases = count()


@dataclass
class Deployment:
    """What the workers of a test are configured with, and a plain Celery client beside them."""

    environment: dict[str, str]
    client: Celery
    redis: RedisServer
    redis_db: RedisDb
    mariadb: MariaDBServer
    database: str
    stack: ExitStack = field(repr=False)
    running: Worker | None = None

    def worker(
        self,
        pool: Pool = "threads",
        concurrency: int = 2,
        *extra_args: str,
        module: str = SERVICE,
        environment: Mapping[str, str] | None = None,
        **more_environment: str,
    ) -> Worker:
        """Start a worker and wait until it is ready; it is stopped when the test ends."""
        more_environment.update(environment or {})
        worker = self.begin(pool, concurrency, *extra_args, module=module, **more_environment)
        worker.wait_ready()
        return worker

    def begin(
        self,
        pool: Pool,
        concurrency: int,
        *extra_args: str,
        module: str = SERVICE,
        **environment: str,
    ) -> Worker:
        """Start a worker without waiting for it; it is stopped when the test ends."""
        worker = Worker(
            module,
            pool=pool,
            concurrency=concurrency,
            env={**self.environment, **environment},
            extra_args=extra_args,
        )
        self.stack.enter_context(worker)
        return worker

    @property
    def log(self) -> str:
        """What the running worker has written so far."""
        assert self.running is not None
        return self.running.text

    def wait_for_line(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        assert self.running is not None
        return self.running.wait_for_line(pattern, timeout)

    def key(self, name: str) -> str | None:
        """A key that the service's redis_client has written."""
        value = self.redis.client(self.redis_db.result_db).get(name)
        return None if value is None else str(value)

    def follow_environment(self) -> None:
        """Let the client use the broker and the results that the environment names."""
        fields = {k: v for k, v in self.environment.items() if k.startswith("CELERY_")}
        settings = CeleryConfig.model_validate(fields).celery_settings()
        self.client = Celery("client", set_as_current=False, changes=settings)
        self.stack.callback(close_client, self.client)

    def send(self, task: str, *args: object, **options: object) -> AsyncResult[object]:
        """Send a task of the service by its name."""
        name = task if "." in task else f"{SERVICE}.{task}"
        send = cast("Callable[..., AsyncResult[object]]", self.client.send_task)
        return send(name, args, **options)

    def call(self, task: str, *args: object, **options: object) -> object:
        """Send a task of the service and wait for its result."""
        return self.send(task, *args, **options).get(timeout=TIMEOUT)

    def make_tables(self) -> None:
        self.mariadb.query(
            f"CREATE TABLE `{self.database}`.users "
            "(id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL)"
        )

    def use_database_for_results(self) -> None:
        """Let the client read results from MariaDB."""
        url = self.mariadb.url("mysql+pymysql", self.database)
        self.client.conf.update(result_backend=f"db+{url}")

    def users(self) -> list[str]:
        rows = self.mariadb.query(f"SELECT name FROM `{self.database}`.users ORDER BY id")
        return [str(name) for (name,) in rows]


@pytest.fixture(scope="module", autouse=True)
def coverage_is_off_where_it_tells_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure neither this process nor workers while a module of REPETITIVE runs."""
    measuring = Coverage.current()
    if measuring is None or not request.path.stem.startswith(REPETITIVE):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
            patch.delenv(name)
        measuring.stop()
        yield
        measuring.start()


@pytest.fixture
def deployment(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    with deploy(redis_server, mariadb_server) as fresh:
        yield fresh


@pytest.fixture(scope="module", params=["prefork", "solo", "threads", "asyncio"])
def service(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    """A deployment with tables and a running worker, for tests that leave both as they are."""
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.make_tables()
        pool: Pool = request.param
        # The solo pool does one task at a time by its nature.
        fresh.running = fresh.worker(pool, concurrency=2)
        yield fresh


AWKWARD = "p w+x%20@/:;é☂?#[]"
"""A password with everything that a URL could get wrong."""


@pytest.fixture(scope="session")
def awkward_redis() -> Iterator[dict[str, str]]:
    """The configuration for a Redis with an awkward password."""
    with RedisServer(password=AWKWARD, config=[("databases", "2000")]) as server:
        where = {"HOST": server.host, "PORT": str(server.port), "PASSWORD": AWKWARD}
        roles = ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER")
        yield {f"{role}_REDIS_{key}": value for role in roles for key, value in where.items()}


@contextmanager
def deploy(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Generator[Deployment]:
    redis_db = fresh_redis_db(redis_server)
    database = f"test_{next(_databases)}"
    mariadb_server.create_database(database)
    environment = {
        **redis_environment("CELERY_BROKER", redis_db, redis_db.broker_db),
        **redis_environment("CELERY_RESULT_BACKEND", redis_db, redis_db.result_db),
        **redis_environment("CELERY_WORKER", redis_db, redis_db.result_db),
        "CELERY_DB_HOST": mariadb_server.host,
        "CELERY_DB_PORT": str(mariadb_server.port),
        "CELERY_DB_USERNAME": mariadb_server.user,
        "CELERY_DB_PASSWORD": mariadb_server.password,
        "CELERY_DB_DATABASE": database,
        "CELERY_DB_CHARSET": "utf8mb4",
    }
    with ExitStack() as stack:
        client = Celery(
            "client",
            broker=redis_db.broker_url,
            backend=redis_db.result_url,
            set_as_current=False,
        )
        stack.callback(close_client, client)
        yield Deployment(
            environment=environment,
            client=client,
            redis=redis_server,
            redis_db=redis_db,
            mariadb=mariadb_server,
            database=database,
            stack=stack,
        )


def close_client(client: Celery) -> None:
    """Close a client, and the connections for results too, which Celery leaves to the collector.

    That may find a socket before the connection that would close it, and Python warns.
    """
    if isinstance(client.backend, RedisBackend):
        backend = cast("Any", client).backend
        backend.result_consumer.stop()
        backend.client.connection_pool.disconnect()
    client.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; fail when it does not in time."""
    wait_until(condition, 30.0, "the condition of the test")


def redis_environment(role: str, server: RedisDb, db: int) -> dict[str, str]:
    return {
        f"{role}_REDIS_HOST": server.host,
        f"{role}_REDIS_PORT": str(server.port),
        f"{role}_REDIS_DB": str(db),
    }
