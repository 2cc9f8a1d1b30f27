"""A deployment for a test: empty Redis databases, an empty MariaDB database, a client, workers."""

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, cast

from celery import Celery
from celery.backends.redis import RedisBackend
from celery.result import AsyncResult

from tests.support.patience import patience, wait_until
from tests.support.servers import MariaDBServer, RedisDb, RedisServer, SentinelCluster
from tests.support.servers.redis import fresh_redis_db
from tests.support.workers import Pool, Worker
from tomskit.celery import CeleryConfig

SERVICE: Final = "tests.integration.service"
TIMEOUT: Final = patience(30.0)
"""Seconds that a test waits for a result."""

AWKWARD: Final = "p w+x%20@/:;é☂?#[]"
"""A password with everything that a URL could get wrong."""

_databases = count()
# These servers have 16 databases, and each test gets two of its own.
_databases_behind_sentinel = count()


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
        neighbours: bool = False,
        **more_environment: str,
    ) -> Worker:
        """Start a worker and wait until it is ready; it is stopped when the test ends."""
        more_environment.update(environment or {})
        worker = self._begin(
            pool, concurrency, extra_args, module, more_environment, neighbours=neighbours
        )
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
        return self._begin(pool, concurrency, extra_args, module, environment, neighbours=False)

    def _begin(
        self,
        pool: Pool,
        concurrency: int,
        extra_args: tuple[str, ...],
        module: str,
        environment: Mapping[str, str],
        *,
        neighbours: bool,
    ) -> Worker:
        worker = Worker(
            module,
            pool=pool,
            concurrency=concurrency,
            env={**self.environment, **environment},
            extra_args=extra_args,
            neighbours=neighbours,
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

    def config(self) -> CeleryConfig:
        """The configuration that the environment makes."""
        # An empty variable is as good as none.
        fields = {k: v for k, v in self.environment.items() if k.startswith("CELERY_") and v}
        return CeleryConfig.model_validate(fields)

    def follow_environment(self) -> None:
        """Let the client use the broker and the results that the environment names."""
        settings = self.config().celery_settings()
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


@contextmanager
def working(
    redis_server: RedisServer,
    mariadb_server: MariaDBServer,
    pool: Pool,
    concurrency: int = 2,
    *,
    module: str = SERVICE,
    **environment: str,
) -> Generator[Deployment]:
    """A deployment whose worker runs; the environment is also that of workers started later."""
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.environment.update(environment)
        fresh.running = fresh.worker(pool, concurrency, module=module)
        yield fresh


def close_client(client: Celery) -> None:
    """Close a client, and the connections for results too, which Celery leaves to the collector.

    That may find a socket before the connection that would close it, and Python warns.
    """
    if isinstance(client.backend, RedisBackend):
        backend = cast("Any", client).backend
        backend.result_consumer.stop()
        # Results that are collected later would connect again to unsubscribe.
        backend.result_consumer.subscribed_to.clear()
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


def sentinel_environment(cluster: SentinelCluster) -> dict[str, str]:
    return {
        "CELERY_USE_SENTINEL": "true",
        "CELERY_SENTINELS": ",".join(f"{host}:{port}" for host, port in cluster.sentinels),
        "CELERY_SENTINEL_MASTER_NAME": cluster.master_name,
        "CELERY_SENTINEL_SOCKET_TIMEOUT": "1",
        # Empty ones do not count: the sentinels say where to connect.
        "CELERY_BROKER_REDIS_HOST": "",
        "CELERY_BROKER_REDIS_PORT": "",
        "CELERY_RESULT_BACKEND_REDIS_HOST": "",
        "CELERY_RESULT_BACKEND_REDIS_PORT": "",
        "CELERY_BROKER_REDIS_DB": str(db := next(_databases_behind_sentinel) * 2),
        "CELERY_RESULT_BACKEND_REDIS_DB": str(db + 1),
    }
