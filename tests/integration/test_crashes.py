"""Workers on the Redis fast path that are killed lose no message. More of it: benchmarks.crashes."""

import pytest
from celery import Celery
from redis import Redis

from tests.support.crashes import (
    MODULE,
    Crashes,
    Member,
    crash,
    running,
    settings,
    worker_of,
)
from tests.support.patience import slowed, wait_until
from tests.support.servers import RedisServer
from tests.support.workers import Pool


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork", "asyncio"])
def test_every_task_runs_when_workers_are_killed(fresh_server: RedisServer, pool: Pool) -> None:
    fleet = (Member(pool),)
    outcome = crash(fresh_server, Crashes(tasks=300, kills=4, fleet=fleet, visibility_timeout=1.0))

    assert outcome.lost == 0
    assert outcome.left == 0


def test_workers_of_plain_celery_share_the_queue_with_ours_that_are_killed(
    fresh_server: RedisServer,
) -> None:
    fleet = (Member("asyncio"), Member("prefork", stock=True, spared=True))
    outcome = crash(fresh_server, Crashes(tasks=300, kills=4, fleet=fleet, visibility_timeout=1.0))

    assert outcome.lost == 0
    assert outcome.left == 0


# Celery's prefork pool may run a task again that was running when its worker was stopped.
@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_every_task_runs_once_when_workers_are_stopped(
    fresh_server: RedisServer, pool: Pool
) -> None:
    fleet = (Member(pool), Member(pool))
    outcome = crash(
        fresh_server, Crashes(tasks=300, kills=4, fleet=fleet, warm=True, visibility_timeout=60.0)
    )

    assert (outcome.lost, outcome.again, outcome.left) == (0, 0, 0)
    assert outcome.codes == {0: 4}
    assert not outcome.complaints


def test_worker_that_runs_tasks_itself_has_acknowledged_what_it_has_run(
    fresh_server: RedisServer,
) -> None:
    solo = Member("solo")
    # Long enough for a busy machine: after it a worker gives back what it has not acknowledged itself.
    crashes = Crashes(tasks=20, kills=1, fleet=(solo,), visibility_timeout=slowed(3.0))
    environment = settings(fresh_server, crashes, solo)
    url = f"redis://{fresh_server.host}:{fresh_server.port}/0"
    with (
        Celery("sender", broker=url, set_as_current=False) as sender,
        Redis(host=fresh_server.host, port=fresh_server.port) as redis,
    ):
        for number in range(crashes.tasks):
            sender.send_task(f"{MODULE}.run_and_kill", (number, 10), ignore_result=True)
        with running(worker_of(solo, environment)) as worker:
            wait_until(lambda: not worker.running, 30, "the worker is killed")
        with running(worker_of(solo, environment)):
            wait_until(lambda: redis.hlen("runs") == crashes.tasks, 30, "all have run")
            wait_until(lambda: redis.hget("runs", "10") == b"2", 30, "the killer runs again")
            wait_until(lambda: redis.hlen("unacked") == 0, 30, "all are acknowledged")
            runs = {int(number): int(count) for number, count in redis.hgetall("runs").items()}

    # Celery acknowledges a task that it runs in its fresh_server process right after it.
    assert runs == {number: 2 if number == 10 else 1 for number in range(crashes.tasks)}
