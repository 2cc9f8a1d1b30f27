"""Broker and results through a real Sentinel, before, during and after a failover."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

import pytest
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tests.support.deployment import (
    SERVICE,
    TIMEOUT,
    Deployment,
    close_client,
    sentinel_environment,
)
from tests.support.patience import wait_until
from tests.support.servers import SentinelCluster
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery

AWAY: Final = (OperationalError, RedisError)
"""What a client is told during a failover."""


def send_surely(deployment: Deployment, task: str, *args: object) -> AsyncResult[object]:
    """Send a task as a plain client of Celery does that does not give up during the failover."""

    def send() -> AsyncResult[object] | None:
        try:
            return deployment.send(task, *args)
        except AWAY:
            return None
        except AttributeError as exc:
            # kombu's producer raises it once when it has lost its connection just before: its channel has none.
            if exc.name != "client":
                raise
            return None

    return wait_until(send, 30, "the task can be sent")


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_every_task_runs_across_a_failover(
    deployment: Deployment, sentinel_cluster: SentinelCluster, pool: Pool
) -> None:
    deployment.environment.update(sentinel_environment(sentinel_cluster))
    deployment.follow_environment()
    deployment.worker(pool, 2)
    sentinel_cluster.wait_until_settled()
    before = sentinel_cluster.master_address()

    sent = [send_surely(deployment, "echo", number) for number in range(20)]
    assert [result.get(timeout=TIMEOUT) for result in sent] == list(range(20))
    waiting = [send_surely(deployment, "sleep", 0.3) for _ in range(4)]
    sentinel_cluster.failover()
    after = [send_surely(deployment, "echo", number) for number in range(20, 40)]

    assert sentinel_cluster.master_address() != before
    assert [result.get(timeout=TIMEOUT) for result in after] == list(range(20, 40))
    assert [result.get(timeout=TIMEOUT) for result in waiting] == ["slept"] * 4


@pytest.mark.parametrize("threads", [1, 4])
def test_an_app_of_ours_is_told_of_a_failover_only_that_the_broker_is_away(
    deployment: Deployment, sentinel_cluster: SentinelCluster, threads: int
) -> None:
    deployment.environment.update(sentinel_environment(sentinel_cluster))
    deployment.follow_environment()
    deployment.worker("threads", 2)
    sentinel_cluster.wait_until_settled()
    app: Any = AsyncCelery("client", config=deployment.config(), set_as_current=False)
    deployment.stack.callback(close_client, app)

    def send(number: int) -> AsyncResult[object]:
        def once() -> AsyncResult[object] | None:
            try:
                return cast("AsyncResult[object]", app.send_task(f"{SERVICE}.echo", [number]))
            except AWAY:
                return None

        return wait_until(once, 30, "the task can be sent")

    with ThreadPoolExecutor(threads) as executor:
        before = [*executor.map(send, range(20))]
        sentinel_cluster.failover()
        after = [*executor.map(send, range(20, 60))]
    assert [result.get(timeout=TIMEOUT) for result in before + after] == list(range(60))


def test_broker_host_is_the_one_sentinel_where_no_other_is_named(
    deployment: Deployment, sentinel_cluster: SentinelCluster
) -> None:
    host, port = sentinel_cluster.sentinels[0]
    environment = sentinel_environment(sentinel_cluster)
    del environment["CELERY_SENTINELS"]
    deployment.environment.update(
        environment | {"CELERY_BROKER_REDIS_HOST": host, "CELERY_BROKER_REDIS_PORT": str(port)}
    )
    deployment.follow_environment()
    deployment.worker("solo")

    assert deployment.call("add", 1, 2) == 3
