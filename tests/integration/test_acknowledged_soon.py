"""How soon a worker of the asyncio pool tells the broker which tasks have ended."""

import re
import signal
from typing import Any, cast

import pytest

from tests.support.deployment import Deployment, redis_environment
from tests.support.faults import SERVICE
from tests.support.patience import wait_until
from tests.support.servers import RedisDb, RedisServer

MANY = 4000
ATTEMPTS = 5
AT_ONCE = 100
"""How many tasks that have ended may wait for their acknowledgement. It was up to a thousand; 50 are stored in
one write, and are acknowledged before the next one is answered."""


def test_few_tasks_run_again_when_a_worker_is_killed(
    deployment: Deployment, fresh_server: RedisServer
) -> None:
    mine = RedisDb(fresh_server.host, fresh_server.port, 0, 1)
    deployment.client.conf.update(broker_url=mine.broker_url, result_backend=mine.result_url)
    environment = {
        **redis_environment("CELERY_BROKER", mine, 0),
        **redis_environment("CELERY_RESULT_BACKEND", mine, 1),
    }
    with fresh_server.client(1) as results, fresh_server.client(0) as broker:
        for _ in range(ATTEMPTS):
            fresh_server.flush()
            for _ in range(MANY):
                deployment.send(f"{SERVICE}.late_nothing")
            worker = deployment.worker("asyncio", 1000, module=SERVICE, environment=environment)
            wait_until(lambda: ended(results) > MANY // 8, 30, "some have ended")
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            if ids := unacknowledged(broker):
                break
        else:
            pytest.fail("all tasks have ended each time before the worker was killed")
        again = sum(bool(results.get(f"celery-task-meta-{one}")) for one in ids)

    assert again <= AT_ONCE


def unacknowledged(broker: Any) -> set[str]:
    """The ids of tasks whose messages somebody holds."""
    held = cast("dict[str, str]", broker.hgetall("unacked"))
    return {found for raw in held.values() for found in re.findall(r'"id": ?"([^"]+)"', raw)}


def ended(results: Any) -> int:
    """How many results there are."""
    count: int = results.dbsize()
    return count
