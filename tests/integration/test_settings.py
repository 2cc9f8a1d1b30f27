"""Settings as a worker finds them: a URL beside parts, a file, and what it says of defaults."""

from pathlib import Path

import pytest

from tests.support.deployment import Deployment
from tests.support.workers import Pool

POOLS: list[Pool] = ["prefork", "asyncio"]


@pytest.mark.parametrize("pool", POOLS)
def test_the_worker_uses_the_urls_of_the_environment(deployment: Deployment, pool: Pool) -> None:
    server = deployment.redis_db
    worker = deployment.worker(
        pool,
        CELERY_BROKER_URL=server.broker_url,
        CELERY_BROKER_REDIS_PORT="1",
        CELERY_RESULT_BACKEND=server.result_url,
        CELERY_RESULT_BACKEND_REDIS_PORT="1",
    )
    assert deployment.call("add", 2, 3) == 5
    assert "Remove either CELERY_BROKER_URL or CELERY_BROKER_REDIS_" in worker.text


def test_the_worker_reads_the_file(deployment: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "service.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in deployment.environment.items()))
    deployment.environment.clear()
    deployment.worker("prefork", TOMSKIT_ENV_FILE=str(file), CELERY_WORKER_REDIS_DB="")
    assert deployment.call("add", 2, 3) == 5


def test_the_worker_refuses_a_file_that_is_not_there(deployment: Deployment) -> None:
    worker = deployment.begin("prefork", 1, TOMSKIT_ENV_FILE="/nowhere/service.env")
    assert worker.wait() != 0
    assert "TOMSKIT_ENV_FILE names /nowhere/service.env, which is not a file" in worker.text


def test_the_worker_says_once_where_results_and_redis_are(deployment: Deployment) -> None:
    for name in list(deployment.environment):
        if name.startswith(("CELERY_RESULT_BACKEND_", "CELERY_WORKER_REDIS_")):
            del deployment.environment[name]
    text = deployment.worker("prefork", 2).text
    assert text.count("Results go to redis://localhost:6379/1, the default") == 1
    assert text.count("redis_client connects to redis://localhost:6379/0, the default") == 1
