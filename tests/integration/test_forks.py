"""A process that a task forks is a client like any other."""

from collections.abc import Iterator

import pytest
from celery.result import AsyncResult

from tests.integration.forking_service import WAYS
from tests.support.deployment import TIMEOUT, Deployment, deploy
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.forking_service"


# Prefork's processes are daemons, which may have no children of their own; solo is as threads.
@pytest.fixture(scope="module", params=["asyncio", "threads"])
def forking(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool = request.param
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.running = fresh.worker(pool, 2, module=SERVICE)
        yield fresh


@pytest.mark.parametrize("task", ["send_from_fork", "send_from_process", "send_from_pool"])
@pytest.mark.parametrize("way", WAYS)
def test_a_forked_process_sends_tasks(forking: Deployment, task: str, way: str) -> None:
    told = forking.send(f"{SERVICE}.{task}", way).get(timeout=TIMEOUT)

    assert not str(told).startswith("failed")
    sent: AsyncResult[int] = forking.client.AsyncResult(str(told))
    assert sent.get(timeout=TIMEOUT) == 3
    # The parent's connections are as they were.
    assert forking.send(f"{SERVICE}.add", 2, 3).get(timeout=TIMEOUT) == 5
