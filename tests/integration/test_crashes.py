"""Workers on the Redis fast path that are killed lose no message. More of it: benchmarks.crashes."""

from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from tests.support.crashes import MODULE, Crashes, crash, settings, worker_of
from tests.support.patience import wait_until
from tests.support.servers import RedisServer
from tests.support.workers import Pool


@pytest.fixture
def own() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork", "asyncio"])
def test_every_task_runs_when_workers_are_killed(own: RedisServer, pool: Pool) -> None:
    outcome = crash(own, Crashes(tasks=300, kills=4, pool=pool, fast=True, visibility_timeout=1.0))

    assert outcome.lost == 0
    assert outcome.left == 0


def test_worker_that_runs_tasks_itself_has_acknowledged_what_it_has_run(own: RedisServer) -> None:
    crashes = Crashes(tasks=20, kills=1, pool="solo", fast=True, visibility_timeout=1.0)
    url = f"redis://{own.host}:{own.port}/0"
    with (
        Celery("sender", broker=url, set_as_current=False) as sender,
        Redis(host=own.host, port=own.port) as redis,
    ):
        for number in range(crashes.tasks):
            sender.send_task(f"{MODULE}.run_and_kill", (number, 10), ignore_result=True)
        with worker_of(crashes, settings(own, crashes)) as worker:
            wait_until(lambda: not worker.running, 30, "the worker is killed")
        with worker_of(crashes, settings(own, crashes)):
            wait_until(lambda: redis.hlen("runs") == crashes.tasks, 30, "all have run")
            wait_until(lambda: redis.hget("runs", "10") == b"2", 30, "the killer runs again")
            wait_until(lambda: redis.hlen("unacked") == 0, 30, "all are acknowledged")
            runs = {int(number): int(count) for number, count in redis.hgetall("runs").items()}

    # Celery acknowledges a task that it runs in its own process right after it.
    assert runs == {number: 2 if number == 10 else 1 for number in range(crashes.tasks)}
