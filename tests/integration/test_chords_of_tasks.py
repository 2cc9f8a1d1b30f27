"""A task that sends a chord leaves nothing behind in its worker."""

from typing import Any, cast

import pytest

from tests.support import soak_service
from tests.support.deployment import Deployment, redis_environment
from tests.support.patience import wait_until
from tests.support.servers import RedisDb, RedisServer
from tests.support.workers import Pool

SERVICE = soak_service.__name__


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_a_worker_does_not_stay_subscribed_to_the_members(
    deployment: Deployment, fresh_server: RedisServer, pool: Pool
) -> None:
    mine = RedisDb(fresh_server.host, fresh_server.port, 0, 1)
    deployment.client.conf.update(broker_url=mine.broker_url, result_backend=mine.result_url)
    environment = {
        **redis_environment("CELERY_BROKER", mine, 0),
        **redis_environment("CELERY_RESULT_BACKEND", mine, 1),
        **redis_environment("CELERY_WORKER", mine, 2),
    }
    with fresh_server.client(2) as own:
        redis = cast("Any", own)
        deployment.worker(pool, 2, module=SERVICE, environment=environment)
        send = cast("Any", deployment.client.send_task)
        send(f"{SERVICE}.send_chord", (1,), ignore_result=True)
        wait_until(lambda: redis.hget(soak_service.DONE, "chord") == "1", 60, "the chord has ended")
        wait_until(
            lambda: not redis.pubsub_channels("celery-task-meta-*"), 10, "nobody is subscribed"
        )
