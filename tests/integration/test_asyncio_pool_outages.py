"""A worker with the asyncio pool whose broker or result store goes away and comes back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import pytest
from celery import Celery
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually, redis_environment
from tests.support.outages import FREE, OUTAGE, SERVICE, SLOTS, outcomes, set_free
from tests.support.servers import Outage, RedisDb, RedisServer, outage
from tests.support.workers import Worker


@dataclass
class Place:
    """A worker that has a Redis of its own for messages and results; tasks use another one."""

    server: RedisServer
    client: Celery
    deployment: Deployment
    worker: Worker

    def send(self, task: str, *args: object, **options: object) -> AsyncResult[object]:
        send = cast("Callable[..., AsyncResult[object]]", self.client.send_task)
        return send(f"{SERVICE}.{task}", args, **options)

    def signature(self, task: str, *args: object) -> object:
        return self.client.signature(f"{SERVICE}.{task}", args)

    def noted(self, key: str) -> int:
        return int(self.deployment.key(key) or 0)

    def queued(self) -> int:
        with self.server.client(0) as client:
            length: int = client.llen("celery") + client.hlen("unacked")
            return length

    def waiting(self) -> int:
        with self.server.client(0) as client:
            length: int = client.llen("celery")
            return length


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Place]:
    # What it has acknowledged is on the disk.
    config = [("appendonly", "yes"), ("appendfsync", "always")]
    with RedisServer(config=config) as server:
        mine = RedisDb(server.host, server.port, 0, 1)
        worker = deployment.worker(
            "asyncio",
            SLOTS,
            module=SERVICE,
            environment={
                **redis_environment("CELERY_BROKER", mine, 0),
                **redis_environment("CELERY_RESULT_BACKEND", mine, 1),
            },
        )
        client = Celery(
            "client", broker=mine.broker_url, backend=mine.result_url, set_as_current=False
        )
        try:
            yield Place(server, client, deployment, worker)
        finally:
            client.close()
            worker.close()


@pytest.mark.parametrize("kind", ["gone", "hanging"])
def test_running_tasks_go_on_and_each_runs_once(place: Place, kind: Outage) -> None:
    gap = place.send("longest_gap", OUTAGE + 3)
    # One slot is taken by the first.
    count = SLOTS - 1
    sent = [place.send("count", f"count-{i}", 1 + i % (OUTAGE + 3)) for i in range(count)]
    eventually(lambda: place.queued() == 0)

    with outage(place.server, kind):
        time.sleep(OUTAGE)
        # While the broker is away tasks end, and others of their own Redis see it.
        eventually(lambda: sum(place.noted(f"count-{i}") for i in range(count)) > count / 3)

    assert outcomes(sent) == [1] * count
    assert [place.noted(f"count-{i}") for i in range(count)] == [1] * count
    # Not a matter of speed: what waits for the broker on this thread would take seconds.
    assert cast("float", gap.get(timeout=TIMEOUT)) < 1
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3


def test_late_acknowledged_tasks_all_run(place: Place) -> None:
    sent = [place.send("late", f"late-{i}", FREE) for i in range(50)]
    with place.deployment.redis.client(place.deployment.redis_db.result_db) as client:
        eventually(lambda: all(client.llen(f"late-{i}") == 1 for i in range(50)))
    assert place.queued() == 50

    with outage(place.server, "gone"):
        set_free(place.deployment)
        time.sleep(OUTAGE)

    assert outcomes(sent) == ["done"] * 50
    eventually(lambda: place.queued() == 0)
    # They ran on, and were acknowledged over the new connection.
    with place.deployment.redis.client(place.deployment.redis_db.result_db) as client:
        assert [client.llen(f"late-{i}") for i in range(50)] == [2] * 50


def test_the_next_step_of_a_chain_waits_for_the_broker(place: Place) -> None:
    link = place.signature("add", 10)
    sent = [place.send("count_when_free", f"count-{i}", FREE, link=link) for i in range(10)]
    eventually(lambda: place.queued() == 0)

    with outage(place.server, "gone"):
        set_free(place.deployment)
        time.sleep(OUTAGE)

    assert outcomes(sent) == [1] * 10
    children = [cast("list[AsyncResult[object]]", result.children) for result in sent]
    assert [outcomes(some) for some in children] == [[11]] * 10


@pytest.mark.parametrize("task", ["send_add", "asend_add", "asend_add_in_child", "asend_chain"])
def test_a_task_that_sends_another_waits_for_the_broker(place: Place, task: str) -> None:
    sent = [place.send(task, FREE) for _ in range(10)]
    eventually(lambda: place.queued() == 0)

    with outage(place.server, "gone"):
        set_free(place.deployment)
        place.worker.wait_for_line("Cannot publish a task; retrying while the broker is away")
        time.sleep(OUTAGE)

    ids = [str(one) for one in outcomes(sent)]
    others = [cast("AsyncResult[object]", place.client.AsyncResult(one)) for one in ids]
    assert outcomes(others) == [3] * 10


def test_a_task_that_limits_the_retries_does_not_wait_for_the_broker(place: Place) -> None:
    sent = place.send("asend_impatiently", FREE)
    eventually(lambda: place.queued() == 0)

    with outage(place.server, "gone"):
        set_free(place.deployment)
        eventually(lambda: place.noted("given up") == 1)

    assert outcomes([sent]) == ["OperationalError raised"]


def test_what_was_fetched_and_has_not_begun_runs_after_the_outage(place: Place) -> None:
    running = [place.send("count_when_free", f"running-{i}", FREE) for i in range(SLOTS)]
    eventually(lambda: place.queued() == 0)
    sent = [place.send("count", f"count-{i}", 0.1) for i in range(SLOTS)]
    # The worker has them, and no slot for them.
    eventually(lambda: place.queued() == SLOTS and place.waiting() == 0)

    with outage(place.server, "gone"):
        time.sleep(OUTAGE)
    set_free(place.deployment)

    assert outcomes(running) == [1] * SLOTS
    assert outcomes(sent) == [1] * SLOTS
    eventually(lambda: place.queued() == 0)


def test_a_result_store_that_is_away_holds_up_only_those_who_store(
    deployment: Deployment,
) -> None:
    with RedisServer(config=[("appendonly", "yes"), ("appendfsync", "always")]) as store:
        mine = RedisDb(store.host, store.port, 0, 1)
        deployment.worker(
            "asyncio",
            100,
            module=SERVICE,
            environment=redis_environment("CELERY_RESULT_BACKEND", mine, 1),
        )
        deployment.client.conf.update(result_backend=mine.result_url)
        task = f"{SERVICE}.count_when_free"
        storing = [deployment.send(task, f"stored-{i}", FREE) for i in range(50)]
        eventually(lambda: all(result.state == "STARTED" for result in storing))
        store.stop()
        set_free(deployment)
        eventually(lambda: deployment.key("stored-49") == "1")

        ignoring = f"{SERVICE}.count"
        for i in range(20):
            deployment.send(
                ignoring, "ignored", 0.0, ignore_result=True, expires=-1 if i % 2 else 60
            )
        eventually(lambda: deployment.key("ignored") == "10")

        store.start()
        assert outcomes(storing) == [1] * 50
