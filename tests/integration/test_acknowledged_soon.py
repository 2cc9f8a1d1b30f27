"""How soon a worker of the asyncio pool tells the broker which tasks have ended."""

import re
import signal
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.support.deployment import Deployment, redis_environment
from tests.support.faults import SERVICE
from tests.support.patience import wait_until
from tests.support.servers import RedisDb, RedisServer

MANY = 4000
AT_ONCE = 100
"""How many tasks that have ended may wait for their acknowledgement. It was up to a thousand; 50 are stored in
one write, and are acknowledged before the next one is answered."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


def test_few_tasks_run_again_when_a_worker_is_killed(
    deployment: Deployment, server: RedisServer
) -> None:
    mine = RedisDb(server.host, server.port, 0, 1)
    deployment.client.conf.update(broker_url=mine.broker_url, result_backend=mine.result_url)
    environment = {
        **redis_environment("CELERY_BROKER", mine, 0),
        **redis_environment("CELERY_RESULT_BACKEND", mine, 1),
    }
    for _ in range(MANY):
        deployment.send(f"{SERVICE}.late_nothing")
    with server.client(1) as results, server.client(0) as broker:
        worker = deployment.worker("asyncio", 1000, module=SERVICE, environment=environment)
        wait_until(lambda: ended(results) > MANY // 4, 30, "some have ended")
        worker.send_signal(signal.SIGKILL)
        worker.wait()

        held = cast("dict[str, str]", cast("Any", broker).hgetall("unacked"))
        ids = {found for raw in held.values() for found in re.findall(r'"id": ?"([^"]+)"', raw)}
        assert ids
        again = sum(bool(results.get(f"celery-task-meta-{one}")) for one in ids)

    assert again <= AT_ONCE


def ended(results: Any) -> int:
    """How many results there are."""
    count: int = results.dbsize()
    return count
