"""Results in a database: those who store and read them keep their connections."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

from tests.integration.typed_service import client as client_app
from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.loops import run
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery

SERVICE = "tests.integration.asyncio_service"
THREADS = 8
"""In how many threads the asyncio pool stores results."""


def connections(deployment: Deployment) -> set[object]:
    """Which there are to the database of results, by the numbers that the server gives them."""
    sql = "SELECT id FROM information_schema.processlist WHERE db = %s"
    return {number for (number,) in deployment.mariadb.query(sql, [deployment.database])}


def run_tasks(deployment: Deployment, number: int) -> None:
    """Run tasks to their ends, and look for these without Celery."""
    ids = [str(deployment.send(f"{SERVICE}.add", 1, 2).id) for _ in range(number)]
    marks = ", ".join(["%s"] * number)
    sql = (
        f"SELECT COUNT(*) FROM `{deployment.database}`.celery_taskmeta "
        f"WHERE status = 'SUCCESS' AND task_id IN ({marks})"
    )

    def are_stored() -> bool:
        tables = deployment.mariadb.query("SHOW TABLES FROM `" + deployment.database + "`")
        return ("celery_taskmeta",) in tables and deployment.mariadb.query(sql, ids) == [(number,)]

    eventually(are_stored)


@pytest.mark.parametrize("pool", ["asyncio", "threads", "prefork"])
def test_a_worker_keeps_its_connections(deployment: Deployment, pool: Pool) -> None:
    deployment.running = deployment.worker(
        pool, 2, module=SERVICE, CELERY_RESULT_BACKEND_TYPE="database"
    )

    run_tasks(deployment, 10)
    first = connections(deployment)
    run_tasks(deployment, 20)
    second = connections(deployment)

    assert first
    assert first <= second
    assert len(second) <= THREADS
    assert deployment.running.stop() == 0
    eventually(lambda: not connections(deployment))


@pytest.fixture
def client(deployment: Deployment, clean_process: None) -> Iterator[AsyncCelery]:
    """An app that waits for results in a database."""
    deployment.worker("asyncio", 2, module=SERVICE, CELERY_RESULT_BACKEND_TYPE="database")
    environment = {**deployment.environment, "CELERY_RESULT_BACKEND_TYPE": "database"}
    with client_app(environment) as app:
        yield app


def test_who_waits_in_a_loop_keeps_its_connections(
    deployment: Deployment, client: AsyncCelery
) -> None:
    def of_client() -> set[object]:
        return connections(deployment) - of_worker

    run_tasks(deployment, 20)
    of_worker = connections(deployment)

    async def wait() -> None:
        sent = client.send_task(f"{SERVICE}.add", (1, 2))
        assert await sent == 3

    run(wait())
    first = of_client()
    run(wait())

    assert first
    assert first <= of_client()
    client.close()
    eventually(lambda: not first & connections(deployment))


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(
    deployment: Deployment, client: AsyncCelery
) -> None:
    sent = client.send_task(f"{SERVICE}.add", (1, 2))
    assert sent.get(timeout=TIMEOUT) == 3
    before = connections(deployment)

    def read() -> None:
        assert client.AsyncResult(sent.id).get(timeout=TIMEOUT) == 3
        # As an interpreter that ends.
        client.close()

    child = multiprocessing.get_context("fork").Process(target=read)
    child.start()
    child.join(TIMEOUT)

    assert child.exitcode == 0
    assert client.AsyncResult(sent.id).get(timeout=TIMEOUT) == 3
    assert before <= connections(deployment)
