"""Starting, running and stopping workers."""

import os
import signal
from pathlib import Path
from typing import cast

import pytest
from celery import states
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.remote import fresh_key, release
from tests.support.workers import Pool

POOLS: tuple[Pool, ...] = ("prefork", "solo", "threads", "asyncio")


def connections(deployment: Deployment) -> int:
    return deployment.mariadb.connections(deployment.database)


@pytest.mark.parametrize("pool", POOLS)
def test_connections_are_kept_between_tasks_and_closed_when_the_last_one_has_finished(
    deployment: Deployment, pool: Pool
) -> None:
    deployment.make_tables()
    worker = deployment.worker(pool, 1)
    # It has looked for messages that wait to be published.
    eventually(lambda: connections(deployment) == 0)

    first = cast("list[int]", deployment.call("session_identity", 0))
    second = cast("list[int]", deployment.call("session_identity", 0))

    assert first[1] == second[1]
    eventually(lambda: connections(deployment) == 1)
    key = fresh_key()
    sent = deployment.send("query_at_both_ends", key, "finished")
    eventually(lambda: sent.state == states.STARTED)
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_line("[wW]arm shutdown")
    release(deployment, key)
    assert worker.wait() == 0
    assert sent.get(timeout=TIMEOUT) == 1
    assert deployment.users() == ["finished"]
    # The server may hear of it a moment later.
    eventually(lambda: connections(deployment) == 0)


# What two workers could share is made in the main process, which solo and threads have as asyncio.
@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_two_workers_that_start_in_the_same_second_both_work(
    deployment: Deployment, pool: Pool
) -> None:
    deployment.worker(pool, 1)
    deployment.worker(pool, 1)

    # A worker fetches four tasks ahead at the most, so one of them cannot take all of these.
    key = fresh_key()
    sent = [deployment.send("note_worker", key) for _ in range(24)]
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        eventually(lambda: client.scard(f"{key}-workers") == 2)
    release(deployment, key)

    assert [result.get(timeout=TIMEOUT) for result in sent] == ["released"] * 24


def test_worker_works_again_after_a_restart(deployment: Deployment) -> None:
    assert deployment.worker("prefork").stop() == 0
    deployment.worker("prefork")

    assert deployment.call("add", 1, 2) == 3


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_recycled_processes_work_and_leave_nothing_open(
    deployment: Deployment, start_method: str
) -> None:
    deployment.make_tables()
    worker = deployment.worker(
        "prefork",
        1,
        CELERY_WORKER_MAX_TASKS_PER_CHILD="3",
        CELERY_WORKER_POOL_START_METHOD=start_method,
    )

    first = deployment.call("where")
    made = [deployment.call("create_user", f"user {i}") for i in range(3)]
    second = deployment.call("where")

    assert made == [1, 2, 3]
    # The first process ended after three tasks.
    assert first != second
    eventually(lambda: connections(deployment) == 1)
    assert worker.stop() == 0
    # The server may hear of it a moment later.
    eventually(lambda: connections(deployment) == 0)


def test_killed_process_is_replaced_by_a_working_one(deployment: Deployment) -> None:
    worker = deployment.worker("prefork", 1)
    (process, _) = cast("list[int]", deployment.call("where"))

    os.kill(process, signal.SIGKILL)

    eventually(lambda: process not in worker.children())
    assert deployment.call("add", 2, 3) == 5


def test_a_spawned_process_may_take_long_to_start(deployment: Deployment, tmp_path: Path) -> None:
    """As on a busy machine, as it imports everything anew. Celery would kill it after 4 s, and the next one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if '--billiard-fork' in sys.orig_argv and 'spawn_main' in str(sys.orig_argv):\n"
        "    time.sleep(6)\n",
        encoding="utf-8",
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    worker = deployment.worker(
        "prefork",
        1,
        environment={"CELERY_WORKER_POOL_START_METHOD": "spawn", "PYTHONPATH": path},
    )
    (process, _) = cast("list[int]", deployment.call("where"))

    os.kill(process, signal.SIGKILL)

    eventually(lambda: process not in worker.children())
    assert deployment.call("add", 2, 3) == 5


def test_worker_without_a_database_runs_what_does_not_need_one(deployment: Deployment) -> None:
    deployment.worker("prefork", CELERY_DB_PORT="1")

    assert deployment.call("add", 1, 1) == 2
    with pytest.raises(Exception, match="connect to MySQL server"):
        deployment.call("session_identity", 0)
    assert deployment.call("add", 2, 2) == 4


def test_worker_without_the_driver_runs_what_does_not_need_it(deployment: Deployment) -> None:
    deployment.worker("threads", CELERY_SQLALCHEMY_DATABASE_URI_SCHEME="mysql+asyncmy")

    assert deployment.call("add", 1, 1) == 2
    sent: AsyncResult[object] = deployment.send("session_identity", 0)
    error = sent.get(timeout=TIMEOUT, propagate=False)
    assert type(error).__name__ == "MissingDriverError"
    assert "pip install" in str(error)
    assert "asyncmy" in str(error)


def test_two_hundred_tasks_share_a_pool_of_connections(deployment: Deployment) -> None:
    worker = deployment.worker(
        "threads",
        20,
        CELERY_SQLALCHEMY_POOL_SIZE="5",
        CELERY_SQLALCHEMY_MAX_OVERFLOW="3",
    )
    most = 0

    sent = [deployment.send("own_session", 0.02) for _ in range(200)]
    while not all(result.ready() for result in sent[-20:]):
        most = max(most, connections(deployment))
    sessions = [str(result.get(timeout=TIMEOUT)) for result in sent]
    # All may have ended before they were sent, but the pool keeps its connections.
    most = max(most, connections(deployment))

    assert len(set(sessions)) == 200
    # One more has looked for messages that wait to be published.
    assert 0 < most <= 8 + 1
    assert worker.stop() == 0
    # The server may hear of it a moment later.
    eventually(lambda: connections(deployment) == 0)


# The asyncio pool has connections of its own to all of them; the others use Celery's.
@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_worker_uses_exactly_the_configured_credentials(
    deployment: Deployment, pool: Pool, awkward_redis: dict[str, str]
) -> None:
    """A password with everything that a URL could get wrong, for broker, results and client."""
    deployment.environment.update(awkward_redis)
    deployment.follow_environment()
    deployment.worker(pool)

    assert deployment.call("cache", "key", "value") == "value"


def test_configured_pool_and_concurrency_take_effect(deployment: Deployment) -> None:
    from tests.support.workers import Worker

    environment = {
        **deployment.environment,
        "CELERY_WORKER_POOL": "threads",
        "CELERY_WORKER_CONCURRENCY": "3",
    }
    with Worker(
        "tests.integration.service", pool=None, concurrency=None, env=environment, cold=True
    ) as worker:
        worker.wait_ready()
        assert "concurrency: 3 (threads)" in worker.text
        assert deployment.call("add", 1, 2) == 3
