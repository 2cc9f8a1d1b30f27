"""Forks: a process that a task forks is a client like any other, and one of a pool finds no lock held."""

import json
import os
import signal
from collections.abc import Iterator
from typing import cast
from uuid import uuid4

import pytest
from celery.result import AsyncResult

from tests.integration.forking_service import TIMES, WAYS
from tests.support.deployment import TIMEOUT, Deployment, eventually, working
from tests.support.refusing import refusing
from tests.support.remote import until_it_hears
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.forking_service"
SLOW_CLIENT = "tests.integration.slow_client_service"


# Prefork's processes are daemons, which may have no children of their own; solo is as threads.
@pytest.fixture(scope="module", params=["asyncio", "threads"])
def forking(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool = request.param
    with working(redis_server, mariadb_server, pool, 2, module=SERVICE) as made:
        yield made


@pytest.mark.parametrize("task", ["send_from_fork", "send_from_process", "send_from_pool"])
@pytest.mark.parametrize("way", WAYS)
def test_a_forked_process_sends_tasks(forking: Deployment, task: str, way: str) -> None:
    told = forking.send(f"{SERVICE}.{task}", way).get(timeout=TIMEOUT)

    assert not str(told).startswith("failed")
    sent: AsyncResult[int] = forking.client.AsyncResult(str(told))
    assert sent.get(timeout=TIMEOUT) == 3
    # The parent's connections are as they were.
    assert forking.send(f"{SERVICE}.add", 2, 3).get(timeout=TIMEOUT) == 5


@pytest.mark.parametrize("pool", ["asyncio", "prefork", "threads", "solo"])
def test_parent_and_child_use_what_was_connected_before_at_the_same_time(
    deployment: Deployment, pool: Pool
) -> None:
    deployment.worker(pool, 2, module=SERVICE)

    for task in ("use_beside_fork", "use_beside_fork_of_plain"):
        told = cast("list[str]", deployment.call(f"{SERVICE}.{task}", 1000, 2000))

        for first, one in zip((1000, 2000), told, strict=True):
            assert not one.startswith("failed"), one
            answers, sent = json.loads(one)
            numbers = range(first, first + TIMES)
            assert answers == [number for number in numbers for _ in range(2)]
            results = [deployment.client.AsyncResult(task_id) for task_id in sent]
            assert [one.get(timeout=TIMEOUT) for one in results] == [n + 1 for n in numbers]


def test_a_process_is_replaced_while_a_thread_of_the_worker_makes_its_first_client(
    deployment: Deployment,
) -> None:
    with RedisServer() as store:
        deployment.client.conf.update(result_backend=store.url(0))
        worker = deployment.worker(
            "prefork",
            1,
            module=SLOW_CLIENT,
            CELERY_RESULT_BACKEND_REDIS_HOST=store.host,
            CELERY_RESULT_BACKEND_REDIS_PORT=str(store.port),
            CELERY_RESULT_BACKEND_REDIS_DB="0",
        )
        process = cast("int", deployment.call(f"{SLOW_CLIENT}.process"))
        revoked = str(uuid4())
        until_it_hears(deployment)
        deployment.client.control.revoke(revoked)
        worker.wait_for_line(f"Tasks flagged as revoked: {revoked}")

        with refusing("OOM", store):
            # The worker itself stores that it was revoked, and leaves it to a thread.
            result = deployment.send(f"{SLOW_CLIENT}.process", task_id=revoked)
            worker.wait_for_line("A client is being made")
            os.kill(process, signal.SIGKILL)
            meanwhile = worker.wait_for_line("Forked meanwhile: (.*)")

        assert meanwhile[1] == "False"
        assert deployment.call(f"{SLOW_CLIENT}.process") != process
        eventually(lambda: str(result.state) == "REVOKED")
        worker.close()


def test_processes_of_a_pool_share_what_a_task_that_runs_once_needs(deployment: Deployment) -> None:
    deployment.worker("prefork", 1, module=SLOW_CLIENT)

    assert deployment.call(f"{SLOW_CLIENT}.loaded", "tomskit.celery._outbox.once") is True
