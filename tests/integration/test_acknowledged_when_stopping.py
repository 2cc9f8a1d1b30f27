"""A worker with threads that stops acknowledges each task when it ends."""

import signal
from collections.abc import Iterator

import pytest

from tests.support.deployment import Deployment, redis_environment
from tests.support.faults import SERVICE
from tests.support.patience import wait_until
from tests.support.servers import RedisDb, RedisServer


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


def unacknowledged(broker: RedisServer) -> int:
    with broker.client() as client:
        count: int = client.hlen("unacked")
    return count


@pytest.mark.parametrize("fast", ["true", "false"], ids=["fast path", "kombu's transport"])
def test_tasks_are_acknowledged_while_the_worker_waits_for_others_to_end(
    broker: RedisServer, deployment: Deployment, fast: str
) -> None:
    mine = RedisDb(broker.host, broker.port, 0, 1)
    deployment.client.conf.update(broker_url=mine.broker_url, result_backend=mine.result_url)
    worker = deployment.worker(
        "threads",
        2,
        module=SERVICE,
        CELERY_REDIS_FAST_PATH=fast,
        environment={
            **redis_environment("CELERY_BROKER", mine, 0),
            **redis_environment("CELERY_RESULT_BACKEND", mine, 1),
        },
    )
    for key in ("soon", "never"):
        deployment.send(f"{SERVICE}.late_when_set", key)
    wait_until(lambda: deployment.key("begun") == "2", 30, "both run")
    wait_until(lambda: unacknowledged(broker) == 2, 30, "neither has ended")
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("Warm shutdown")

    try:
        deployment.redis.client(deployment.redis_db.result_db).set("soon", "1")
        wait_until(lambda: unacknowledged(broker) == 1, 30, "the one that has ended")
        assert worker.running
    finally:
        worker.kill()
