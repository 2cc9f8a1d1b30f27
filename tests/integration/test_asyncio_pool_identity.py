"""Under the asyncio pool each of a thousand tasks is itself, and they share what they should."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import cast
from uuid import uuid4

import pytest
import redis
from celery import chain, group, signature, states
from celery.result import AsyncResult, GroupResult

from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.remote import pool_of, until_it_hears
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.servers.redis import fresh_redis_db

SERVICE = "tests.integration.asyncio_service"
THOUSAND = 1000
MANY = 300
"""Tasks at once, many more than there are connections."""
CONNECTIONS = 10
TEST = "test"
"""The name of the test's own connections."""
THREADS = 3


@pytest.fixture(scope="module")
def thousand(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    """A worker for a thousand tasks at once, with few connections and few threads."""
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.environment["CELERY_WORKER_REDIS_DB"] = str(fresh_redis_db(redis_server).broker_db)
        fresh.running = fresh.worker(
            "asyncio",
            THOUSAND,
            module=SERVICE,
            CELERY_SQLALCHEMY_POOL_SIZE=str(CONNECTIONS),
            CELERY_SQLALCHEMY_MAX_OVERFLOW="0",
            CELERY_WORKER_REDIS_MAX_CONNECTIONS=str(CONNECTIONS),
            CELERY_WORKER_SYNC_CONCURRENCY=str(THREADS),
        )
        yield fresh


def send(deployment: Deployment, task: str, *args: object) -> AsyncResult[object]:
    return deployment.send(f"{SERVICE}.{task}", *args)


def call(deployment: Deployment, task: str, *args: object) -> object:
    return send(deployment, task, *args).get(timeout=TIMEOUT)


def send_many(deployment: Deployment, number: int, task: str, *args: object) -> GroupResult:
    """Send a task many times."""
    one = signature(f"{SERVICE}.{task}", args=args, app=deployment.client)
    many = group([one.clone() for _ in range(number)], app=deployment.client)
    return cast("GroupResult", many.apply_async())


def results_of(sent: GroupResult) -> list[object]:
    return cast("list[object]", sent.get(timeout=2 * TIMEOUT))


def worker_redis(deployment: Deployment) -> redis.Redis:
    """A client of the database that the worker's redis_client uses."""
    db = int(deployment.environment["CELERY_WORKER_REDIS_DB"])
    return deployment.redis.client(db, name=TEST)


def release(deployment: Deployment, key: str) -> None:
    with worker_redis(deployment) as client:
        client.set(key, "released")


@contextmanager
def sampled(count: Callable[[], int]) -> Generator[list[int]]:
    """What `count` answers meanwhile, again and again."""
    counts: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            counts.append(count())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()


def database_connections(deployment: Deployment) -> int:
    sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s"
    [(number,)] = deployment.mariadb.query(sql, (deployment.database,))
    return cast("int", number)


def redis_connections(deployment: Deployment) -> int:
    """The connections of the worker's redis_client, which has a database of its own."""
    db = deployment.environment["CELERY_WORKER_REDIS_DB"]
    found = [client for client in deployment.redis.clients() if client["db"] == db]
    return len([client for client in found if client["name"] != TEST])


# -- who a task is


def test_each_of_a_thousand_tasks_at_once_sees_only_its_own_id(thousand: Deployment) -> None:
    sent = send_many(thousand, THOUSAND, "identity", THOUSAND)

    seen = results_of(sent)

    assert seen == [[one.id] for one in sent.results or []]


def test_thread_of_a_task_sees_its_id(thousand: Deployment) -> None:
    sent = send(thousand, "identity_in_thread")

    assert sent.get(timeout=TIMEOUT) == [sent.id]


# -- what they share


def test_each_task_has_a_session_of_its_own(thousand: Deployment) -> None:
    names = results_of(send_many(thousand, 200, "own_session", 200))

    assert len(set(names)) == 200


def test_many_tasks_share_the_connections_to_the_database(thousand: Deployment) -> None:
    key = uuid4().hex
    with sampled(lambda: database_connections(thousand)) as counts:
        sent = send_many(thousand, MANY, "select", key)
        eventually(lambda: database_connections(thousand) == CONNECTIONS)
        release(thousand, key)
        numbers = results_of(sent)

    assert numbers == [7] * MANY
    assert max(counts) <= CONNECTIONS


def test_many_tasks_share_the_connections_to_redis(thousand: Deployment) -> None:
    key = uuid4().hex
    with sampled(lambda: redis_connections(thousand)) as counts:
        sent = send_many(thousand, MANY, "block_redis", key)
        eventually(lambda: redis_connections(thousand) == CONNECTIONS)
        with worker_redis(thousand) as client:
            client.rpush(key, *map(str, range(MANY)))
        answered = results_of(sent)

    assert answered == [True] * MANY
    assert max(counts) <= CONNECTIONS


# -- plain tasks


def test_plain_task_runs_in_a_thread(thousand: Deployment) -> None:
    name, is_main_thread = cast("list[object]", call(thousand, "plain_thread"))

    assert str(name).startswith("tomskit-task")
    assert is_main_thread is False


def test_coroutines_go_on_while_plain_tasks_block_all_threads(thousand: Deployment) -> None:
    key = uuid4().hex
    blocking = send_many(thousand, THREADS, "plain_wait_for", key)
    eventually(lambda: pool_of(thousand)["running-in-threads"] == THREADS)

    # It sets what the threads wait for.
    call(thousand, "remember", "released", key)

    results_of(blocking)


def test_no_more_plain_tasks_run_at_once_than_there_are_threads(thousand: Deployment) -> None:
    key = uuid4().hex

    sent = send_many(thousand, 3 * THREADS, "plain_wait_for", key)

    eventually(lambda: pool_of(thousand)["waiting-for-threads"] == 2 * THREADS)
    assert pool_of(thousand)["running-in-threads"] == THREADS
    release(thousand, key)
    assert max(cast("list[int]", results_of(sent))) == THREADS
    eventually(lambda: pool_of(thousand)["running-in-threads"] == 0)


@pytest.mark.parametrize("task", ["plain_with_runtime", "plain_with_runner"])
def test_plain_task_runs_a_coroutine_with_a_session(thousand: Deployment, task: str) -> None:
    sent = send(thousand, task)

    assert sent.get(timeout=TIMEOUT) == [sent.id, sent.id, 7]


def test_plain_tasks_that_wait_for_coroutines_on_the_loop_take_turns(thousand: Deployment) -> None:
    sent = send_many(thousand, 50, "plain_with_runtime")

    assert results_of(sent) == [[one.id, one.id, 7] for one in sent.results or []]


def test_chain_goes_from_a_plain_task_to_an_async_one_and_back(thousand: Deployment) -> None:
    steps = [
        signature(f"{SERVICE}.{name}", args=args, app=thousand.client)
        for name, args in [("plain_add", (1, 2)), ("add", (3,)), ("plain_add", (4,)), ("add", (5,))]
    ]

    result: AsyncResult[object] = chain(*steps).apply_async()

    assert result.get(timeout=TIMEOUT) == 15


def test_plain_task_is_retried(thousand: Deployment) -> None:
    sent = send(thousand, "plain_retry_until", 2)

    assert sent.get(timeout=TIMEOUT) == [sent.id, 2]


def test_plain_task_sends_an_async_one(thousand: Deployment) -> None:
    child = str(call(thousand, "plain_send", 2, 3))

    result: AsyncResult[object] = thousand.client.AsyncResult(child)
    assert result.get(timeout=TIMEOUT) == 5


def test_plain_task_cannot_be_terminated_and_the_log_says_so(thousand: Deployment) -> None:
    key = uuid4().hex
    sent = send(thousand, "plain_wait_for", key)
    eventually(lambda: str(sent.state) == states.STARTED)

    until_it_hears(thousand)
    thousand.client.control.revoke(sent.id, terminate=True)

    thousand.wait_for_line(rf"plain_wait_for\[{sent.id}\] cannot be terminated")
    release(thousand, key)
    eventually(lambda: pool_of(thousand)["running-in-threads"] == 0)
