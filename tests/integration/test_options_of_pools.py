"""A worker says at its start what it was asked for and its pool cannot do."""

import pytest

from tests.support.deployment import Deployment
from tests.support.workers import Pool

SERVICE = "tests.integration.options_service"
OPTIONS = ("--max-tasks-per-child=10", "--max-memory-per-child=100000", "-Ofair", "--autoscale=3,2")


def warnings_of(
    deployment: Deployment, pool: Pool, *options: str, concurrency: int = 2, **environment: str
) -> str:
    worker = deployment.worker(pool, concurrency, *options, module=SERVICE, environment=environment)
    return "\n".join(line for line in worker.lines if "WARNING" in line)


@pytest.mark.parametrize("pool", ["asyncio", "threads", "solo"])
def test_what_is_for_processes(deployment: Deployment, pool: Pool) -> None:
    said = warnings_of(
        deployment,
        pool,
        *OPTIONS,
        CELERY_WORKER_POOL_START_METHOD="spawn",
        CELERY_WORKER_SYNC_CONCURRENCY="3",
    )

    assert f"--max-tasks-per-child and --max-memory-per-child: the {pool} pool has no child" in said
    assert f"START_METHOD=spawn: the {pool} pool starts no processes" in said
    assert "-O fair: only the prefork pool" in said
    assert ("--autoscale: the" in said) is (pool != "asyncio")
    assert ("CELERY_WORKER_SYNC_CONCURRENCY: only the asyncio pool" in said) is (pool != "asyncio")
    assert (
        f"Time limits of plain functions are not enforced by the {pool} pool: "
        f"{SERVICE}.plain_limited. " in said
    )
    assert (
        f"generator functions do nothing, as Celery does not iterate over what they return: {SERVICE}.items."
        in said
    )


def test_limits_of_the_worker(deployment: Deployment) -> None:
    said = warnings_of(deployment, "threads", "--soft-time-limit=30")

    assert f"threads pool: {SERVICE}.items, {SERVICE}.plain, {SERVICE}.plain_limited." in said


def test_concurrency_of_solo(deployment: Deployment) -> None:
    assert "the solo pool runs one task at a time" in warnings_of(deployment, "solo")


def test_prefork_honours_them(deployment: Deployment) -> None:
    said = warnings_of(deployment, "prefork", *OPTIONS, CELERY_WORKER_SYNC_CONCURRENCY="3")

    assert "prefork pool has no" not in said
    assert "-O fair" not in said
    assert "--autoscale" not in said
    assert "Time limits" not in said
    assert "CELERY_WORKER_SYNC_CONCURRENCY: only the asyncio pool uses it" in said
    assert "generator functions" in said


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
def test_without_such_options_nothing_is_said_of_them(deployment: Deployment, pool: Pool) -> None:
    said = warnings_of(deployment, pool)

    for words in ("--max", "spawn", "-O ", "--autoscale", "CELERY_WORKER_S", "one task at a time"):
        assert words not in said
