"""What kombu's Redis transport can do, on the worker's side of the fast path."""

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, cast

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import Exchange
from kombu.common import Broadcast

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.patience import patience, slowed, wait_until
from tests.support.servers import RedisDb, RedisServer
from tests.support.workers import Pool, Worker

SERVICE = "tests.integration.transport_service"
KEY = "notes"
VISIBILITY = round(slowed(2.0))
"""Seconds, within which also a busy machine goes from one step of a test to the next."""

MANY = 80
"""Messages, more than two workers take at first."""

each_pool = pytest.mark.parametrize("pool", ["asyncio", "prefork"])


def start(
    deployment: Deployment,
    pool: Pool,
    *arguments: str,
    fast: bool = True,
    settings: Mapping[str, object] | None = None,
    **environment: str,
) -> Worker:
    """Start a worker that runs one task at a time and takes no other one ahead."""
    return deployment.worker(
        pool,
        1,
        *arguments,
        module=SERVICE,
        environment={
            "CELERY_REDIS_FAST_PATH": str(fast).lower(),
            "CELERY_WORKER_PREFETCH_MULTIPLIER": "1",
            "SETTINGS": json.dumps(settings or {}),
            **environment,
        },
    )


def send(deployment: Deployment, task: str, *args: object, **options: Any) -> AsyncResult[object]:
    return deployment.send(f"{SERVICE}.{task}", *args, **options)


def notes(deployment: Deployment) -> list[str]:
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        return cast("list[str]", client.lrange(KEY, 0, -1))


def set_key(deployment: Deployment, key: str) -> None:
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        client.set(key, "set")


def keys_of_broker(deployment: Deployment) -> list[str]:
    with deployment.redis.client(deployment.redis_db.broker_db) as client:
        return cast("list[str]", cast("Any", client).keys("*"))


@each_pool
def test_priorities(deployment: Deployment, pool: Pool) -> None:
    priorities = [9, 3, 6, 0, 3]
    sent = [send(deployment, "note", KEY, str(one), priority=one) for one in priorities]

    start(deployment, pool)

    assert [result.get(timeout=TIMEOUT) for result in sent] == [str(one) for one in priorities]
    assert notes(deployment) == ["0", "3", "3", "6", "9"]


@each_pool
def test_several_queues_in_turn(deployment: Deployment, pool: Pool) -> None:
    sent = [send(deployment, "note", KEY, queue, queue=queue) for queue in "abc" for _ in range(8)]

    start(deployment, pool, "--queues=a,b,c")

    for result in sent:
        result.get(timeout=TIMEOUT)
    # Each of the first twelve could have been from one queue only.
    first = notes(deployment)[:12]
    assert {queue: first.count(queue) for queue in "abc"} == {"a": 4, "b": 4, "c": 4}


@each_pool
def test_fanout_reaches_every_worker(deployment: Deployment, pool: Pool) -> None:
    for _ in range(2):
        start(deployment, pool, BROADCAST="news")
    deployment.client.conf.task_queues = (Broadcast("news"),)
    # Celery declares no such queue when it sends, and a client on Redis knows what it has declared.
    news = {"queue": "news", "declare": [Exchange("news", "fanout")]}

    def both_have_heard() -> bool:
        # A worker that has just begun may not have subscribed yet.
        send(deployment, "note", KEY, mark := os.urandom(4).hex(), **news)
        time.sleep(slowed(0.3))
        return notes(deployment).count(mark) == 2

    eventually(both_have_heard)


@each_pool
def test_remote_control(deployment: Deployment, pool: Pool) -> None:
    worker = start(deployment, pool)

    def answers() -> bool:
        found = deployment.client.control.inspect(timeout=patience(1)).ping()
        return found == {worker.hostname: {"ok": "pong"}}

    eventually(answers)


@each_pool
def test_global_key_prefix(deployment: Deployment, pool: Pool) -> None:
    settings = {
        "broker_transport_options": {"global_keyprefix": "mine:", "visibility_timeout": VISIBILITY}
    }
    deployment.client.conf.update(settings)
    first = start(deployment, pool, settings=settings)
    held = send(deployment, "hold", KEY, "free")
    eventually(lambda: notes(deployment) == ["held"])

    assert "mine:unacked" in keys_of_broker(deployment)
    first.kill()
    time.sleep(VISIBILITY + 0.2)
    start(deployment, pool, settings=settings)

    eventually(lambda: notes(deployment) == ["held", "held"])
    set_key(deployment, "free")
    assert held.get(timeout=TIMEOUT) == "free"
    eventually(lambda: "mine:unacked" not in keys_of_broker(deployment))
    assert all(key.startswith("mine:") for key in keys_of_broker(deployment))


@each_pool
@pytest.mark.parametrize("fast", [True, False], ids=["fast-first", "kombu-first"])
def test_what_one_has_left_the_other_gives_back(
    deployment: Deployment, pool: Pool, fast: bool
) -> None:
    settings = {"broker_transport_options": {"visibility_timeout": VISIBILITY}}
    first = start(deployment, pool, fast=fast, settings=settings)
    held = send(deployment, "hold", KEY, "free")
    eventually(lambda: notes(deployment) == ["held"])

    first.kill()
    time.sleep(VISIBILITY + 0.2)
    start(deployment, pool, fast=not fast, settings=settings)

    eventually(lambda: notes(deployment) == ["held", "held"])
    set_key(deployment, "free")
    assert held.get(timeout=TIMEOUT) == "free"
    eventually(lambda: "unacked" not in keys_of_broker(deployment))


@each_pool
def test_both_share_a_queue(deployment: Deployment, pool: Pool) -> None:
    workers = [start(deployment, pool, fast=fast) for fast in (True, False)]

    sent = [send(deployment, "note", KEY, str(number)) for number in range(MANY)]

    assert [result.get(timeout=TIMEOUT) for result in sent] == list(map(str, range(MANY)))
    assert sorted(notes(deployment)) == sorted(map(str, range(MANY)))
    for worker in workers:
        assert worker.stop() == 0
    assert "unacked" not in keys_of_broker(deployment)


@each_pool
def test_next_url_is_tried_where_a_broker_is_away(deployment: Deployment, pool: Pool) -> None:
    with RedisServer() as first, RedisServer() as second:
        urls = [RedisDb(it.host, it.port, 0, 0).broker_url for it in (first, second)]
        worker = start(deployment, pool, settings={"broker_url": urls})

        def run_by(url: str) -> None:
            with Celery("client", broker=url, set_as_current=False) as client:
                cast("Any", client).send_task(f"{SERVICE}.note", (KEY, url))
            wait_until(lambda: url in notes(deployment), 30, f"a task has come by {url}")

        run_by(urls[0])
        first.stop()
        run_by(urls[1])
        assert worker.stop() == 0


def test_signal_gives_back_what_has_not_begun(deployment: Deployment) -> None:
    worker = start(deployment, "asyncio", CELERY_WORKER_PREFETCH_MULTIPLIER="4")
    sent = [send(deployment, "hold", KEY, "free") for _ in range(3)]
    eventually(lambda: notes(deployment) == ["held"])

    worker.send_signal(signal.SIGQUIT)
    worker.wait()
    start(deployment, "asyncio", fast=False)
    set_key(deployment, "free")

    assert [result.get(timeout=TIMEOUT) for result in sent] == ["free"] * 3
