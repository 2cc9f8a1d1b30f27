"""Broker and results through a real Sentinel, before, during and after a failover."""

import pytest
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tests.support.deployment import TIMEOUT, Deployment, sentinel_environment
from tests.support.patience import wait_until
from tests.support.servers import SentinelCluster
from tests.support.workers import Pool


def send_surely(deployment: Deployment, task: str, *args: object) -> AsyncResult[object]:
    """Send a task as a client does that does not give up during the failover."""

    def send() -> AsyncResult[object] | None:
        try:
            return deployment.send(task, *args)
        except (OperationalError, RedisError):
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
