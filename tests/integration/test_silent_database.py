"""A database that goes silent under open sessions: tasks end, the worker goes on, and it stops."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, cast

import pytest
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.proxy import Proxy
from tests.support.servers import MariaDBServer
from tests.support.servers.postgres import PostgresServer, postgres_missing
from tests.support.workers import Worker

SERVICE = "tests.integration.silent_database_service"
Scheme = Literal["mysql+aiomysql", "postgresql+asyncpg", "postgresql+psycopg"]
SCHEMES: tuple[Scheme, ...] = ("mysql+aiomysql", "postgresql+asyncpg", "postgresql+psycopg")
MANY = 10
LONGEST_GAP = 0.5


@dataclass
class Place:
    """A worker, and the proxy between it and its database."""

    deployment: Deployment
    worker: Worker
    proxy: Proxy

    def send(self, task: str, times: int = 1) -> list[AsyncResult[object]]:
        return [self.deployment.send(f"{SERVICE}.{task}") for _ in range(times)]

    def begin(self, task: str, times: int) -> list[AsyncResult[object]]:
        """Send tasks, and wait until they have open connections."""
        before = self._count("begun")
        sent = self.send(task, times)
        eventually(lambda: self._count("begun") == before + times)
        return sent

    def go_silent(self, asking: int) -> None:
        """Let the database answer nothing more on the connections that there are."""
        self.proxy.freeze()
        self.set("silent")
        eventually(lambda: self._count("asking") == asking)

    def set(self, key: str) -> None:
        self.deployment.redis.client(self.deployment.redis_db.result_db).set(key, "yes")

    def _count(self, key: str) -> int:
        return int(self.deployment.key(key) or 0)


@pytest.fixture(params=SCHEMES)
def place(
    request: pytest.FixtureRequest, deployment: Deployment, mariadb_server: MariaDBServer
) -> Iterator[Place]:
    scheme = cast("Scheme", request.param)
    with ExitStack() as stack:
        server: MariaDBServer | PostgresServer = mariadb_server
        environment: dict[str, str] = {}
        if scheme != "mysql+aiomysql":
            if (missing := postgres_missing()) is not None:
                pytest.skip(missing)
            server = stack.enter_context(PostgresServer())
            environment = {
                "CELERY_DB_USERNAME": server.user,
                "CELERY_DB_PASSWORD": server.password,
                "CELERY_DB_DATABASE": server.database,
                "CELERY_DB_CHARSET": "",
            }
        proxy = stack.enter_context(Proxy(server.host, server.port))
        worker = deployment.worker(
            "asyncio",
            100,
            module=SERVICE,
            environment=environment,
            CELERY_SQLALCHEMY_DATABASE_URI_SCHEME=scheme,
            CELERY_DB_HOST=proxy.host,
            CELERY_DB_PORT=str(proxy.port),
            CELERY_SQLALCHEMY_POOL_SIZE=str(3 * MANY),
        )
        place = Place(deployment, worker, proxy)
        yield place
        # The worker waits for its tasks, also where a test has failed.
        place.set("over")


def errors_of(sent: list[AsyncResult[object]]) -> set[str]:
    return {type(one.get(timeout=TIMEOUT, propagate=False)).__name__ for one in sent}


def test_time_limits_end_tasks_that_wait_for_a_silent_database(place: Place) -> None:
    watching = place.begin("watch", 1)
    asking = place.begin("ask_in_silence", MANY)
    stubborn = place.begin("ask_again_in_silence", MANY)
    idle = place.begin("stay_idle", MANY)

    place.go_silent(2 * MANY)

    assert errors_of(asking) == {"SoftTimeLimitExceeded"}
    assert errors_of(stubborn) == {"TimeLimitExceeded"}
    assert {str(one.get(timeout=TIMEOUT)) for one in idle} == {"idle"}
    # New connections pass.
    assert [one.get(timeout=TIMEOUT) for one in place.send("ask", 3 * MANY)] == [1] * 3 * MANY
    place.set("over")
    [gap] = [one.get(timeout=TIMEOUT) for one in watching]
    assert isinstance(gap, float)
    assert gap < LONGEST_GAP


def test_a_worker_stops_although_its_database_is_silent(place: Place) -> None:
    asking = place.begin("ask_in_silence", MANY)
    idle = place.begin("stay_idle", MANY)
    place.go_silent(MANY)

    assert place.worker.stop() == 0

    assert errors_of(asking) == {"SoftTimeLimitExceeded"}
    assert {str(one.get(timeout=TIMEOUT)) for one in idle} == {"idle"}


def test_a_worker_ends_at_once_although_its_database_is_silent(place: Place) -> None:
    place.begin("ask_in_silence", MANY)
    place.begin("stay_idle", MANY)
    place.go_silent(MANY)

    place.worker.quit()


def test_a_worker_stops_although_connections_of_its_pool_are_silent(place: Place) -> None:
    idle = place.begin("stay_idle", 2 * MANY)
    place.set("silent")
    assert {str(one.get(timeout=TIMEOUT)) for one in idle} == {"idle"}

    place.proxy.freeze()

    assert place.worker.stop() == 0
