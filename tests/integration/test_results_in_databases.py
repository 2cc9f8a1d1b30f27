"""Results in a database: a worker keeps its connections."""

import pytest

from tests.support.deployment import Deployment, eventually
from tests.support.workers import Pool

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
