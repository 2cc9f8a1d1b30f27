"""The states of tasks in Redis: a worker with the asyncio pool stores as Celery does, at once."""

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast
from uuid import uuid4

import pytest
from celery import states
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually, redis_environment
from tests.support.remote import fresh_key, release
from tests.support.servers import RedisDb, RedisServer, outage

SERVICE = "tests.integration.asyncio_service"


@dataclass
class Store:
    """A Redis for results alone, and a worker that stores there."""

    server: RedisServer
    deployment: Deployment

    def start(self, **environment: str) -> None:
        where = RedisDb(self.server.host, self.server.port, 0, 0)
        self.deployment.running = self.deployment.worker(
            "asyncio",
            100,
            module=SERVICE,
            environment={**redis_environment("CELERY_RESULT_BACKEND", where, 0), **environment},
        )

    def send(self, task: str, *args: object, task_id: str | None = None) -> str:
        """Send a task that nobody waits for, and answer its id."""
        task_id = task_id or str(uuid4())
        self.deployment.send(f"{SERVICE}.{task}", *args, task_id=task_id)
        return task_id

    @contextmanager
    def redis(self) -> Generator[Any]:
        with self.server.client() as client:
            yield client

    def raw(self, task_id: str) -> str | None:
        with self.redis() as client:
            return cast("str | None", client.get(f"celery-task-meta-{task_id}"))

    def kept(self, task_id: str) -> int:
        """Seconds; -1 for ever."""
        with self.redis() as client:
            return cast("int", client.ttl(f"celery-task-meta-{task_id}"))

    def meta(self, task_id: str) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.raw(task_id) or "{}"))

    def state(self, task_id: str) -> object:
        return self.meta(task_id).get("status")

    def wait_for(self, task_id: str, state: str) -> None:
        eventually(lambda: self.state(task_id) == state)

    def calls(self, command: str) -> int:
        """How often the server has executed a command."""
        with self.redis() as client:
            statistics = cast("Mapping[str, Mapping[str, int]]", client.info("commandstats"))
            return statistics.get(f"cmdstat_{command}", {"calls": 0})["calls"]

    @contextmanager
    def told(self, task_id: str) -> Generator[Iterator[dict[str, object]]]:
        """What who listens to a task is told, but for its starts."""
        with self.redis() as client, client.pubsub() as listener:
            listener.subscribe(f"celery-task-meta-{task_id}")
            messages = (
                json.loads(news["data"]) for news in listener.listen() if news["type"] == "message"
            )
            yield (meta for meta in messages if meta["status"] != states.STARTED)


@pytest.fixture
def store(deployment: Deployment) -> Iterator[Store]:
    config = [("appendonly", "yes"), ("appendfsync", "always")]
    with RedisServer(config=config) as server:
        yield Store(server, deployment)


def ended(store: Store, task: str, *args: object, task_id: str | None = None) -> str:
    """Run a task to its end, and wait until everything about it is stored."""
    task_id = store.send(task, *args, task_id=task_id)
    # Another one behind it, as the state of this one may be what it was before.
    store.wait_for(store.send("add", 1, 1), states.SUCCESS)
    return task_id


def test_success_stays(store: Store) -> None:
    store.start()
    task_id = ended(store, "add", 1, 2)
    before = store.raw(task_id)

    ended(store, "fail", "too late", task_id=task_id)
    ended(store, "add", 3, 4, task_id=task_id)

    assert store.meta(task_id)["result"] == 3
    assert store.raw(task_id) == before


def test_other_states_are_followed_by_later_ones(store: Store) -> None:
    store.start()
    task_id = str(uuid4())

    with store.told(task_id) as listener:
        ended(store, "fail", "at first", task_id=task_id)
        assert store.state(task_id) == states.FAILURE
        # Not at once: the second attempt would then overtake the state of the first one.
        store.send("retry_in", 0.5, task_id=task_id)
        store.wait_for(task_id, states.SUCCESS)
        told = list(islice(listener, 3))

    assert [one["status"] for one in told] == [states.FAILURE, states.RETRY, states.SUCCESS]
    assert told[-1] == store.meta(task_id)
    assert store.meta(task_id)["result"] == [task_id, 1]


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
def test_a_late_retry_does_not_hide_how_the_next_run_ended(store: Store, timezone: str) -> None:
    store.start(CELERY_TIMEZONE=timezone)
    key = fresh_key()
    task_id = store.send("fail_when_retried", key)
    store.wait_for(task_id, states.FAILURE)

    release(store.deployment, key)

    store.deployment.wait_for_line(f"{task_id}.* retry: Retry in 0s")
    assert store.state(task_id) == states.FAILURE


def test_what_redis_cannot_read_is_read_by_the_worker(store: Store) -> None:
    store.start(SETTINGS='{"result_compression": "gzip"}')
    url = RedisDb(store.server.host, store.server.port, 0, 0).result_url
    store.deployment.client.conf.update(result_backend=url)

    def result(task_id: str) -> AsyncResult[object]:
        return AsyncResult(task_id, app=store.deployment.client)

    retried = store.send("retry_until", 2)
    assert result(retried).get(timeout=TIMEOUT) == [retried, 2]

    succeeded = store.send("add", 1, 2)
    assert result(succeeded).get(timeout=TIMEOUT) == 3
    store.send("fail", "too late", task_id=succeeded)
    assert result(store.send("add", 3, 4)).get(timeout=TIMEOUT) == 7
    assert result(succeeded).get(timeout=TIMEOUT) == 3
    with store.redis() as client:
        first = client.execute_command("GETRANGE", f"celery-task-meta-{succeeded}", 0, 0)
    assert first != "{"


def test_extended_results_tell_of_the_call(store: Store) -> None:
    store.start(SETTINGS='{"result_extended": true}')

    meta = store.meta(ended(store, "add", 1, 2))

    assert meta["name"] == f"{SERVICE}.add"
    assert (meta["args"], meta["kwargs"], meta["queue"]) == ([1, 2], {}, "celery")
    assert "worker" in meta


def test_states_are_kept_as_long_as_configured(store: Store) -> None:
    store.start(CELERY_RESULT_EXPIRES="500")

    succeeded, failed = ended(store, "add", 1, 2), ended(store, "fail", "message")

    assert 490 < store.kept(succeeded) <= 500
    assert 490 < store.kept(failed) <= 500


def test_states_are_kept_for_ever_where_that_is_configured(store: Store) -> None:
    store.start(CELERY_RESULT_EXPIRES="0")

    assert store.kept(ended(store, "add", 1, 2)) == -1


def test_a_short_task_has_one_state_and_a_long_one_two(store: Store) -> None:
    store.start()
    store.wait_for(store.send("add", 1, 1), states.SUCCESS)
    before = store.calls("publish")

    for _ in range(20):
        # It awaits nothing, so that both its states belong to the same turn.
        store.wait_for(store.send("total", [1, 2]), states.SUCCESS)

    assert store.calls("publish") - before == 20
    key = fresh_key()
    waiting = store.send("wait_for", key)
    store.wait_for(waiting, states.STARTED)
    assert store.meta(waiting)["result"]
    release(store.deployment, key)
    store.wait_for(waiting, states.SUCCESS)


@pytest.mark.parametrize("how", ["unknown", "forbidden"])
def test_a_server_without_scripts_is_used_as_celery_does(deployment: Deployment, how: str) -> None:
    config = [("rename-command", "EVAL", "no-eval")] if how == "unknown" else []
    with RedisServer(config=config) as server:
        store = Store(server, deployment)
        if how == "forbidden":
            with store.redis() as client:
                client.execute_command("ACL", "SETUSER", "default", "-eval", "-evalsha")
        store.start()
        key = fresh_key()
        waiting = store.send("wait_for", key)
        store.wait_for(waiting, states.STARTED)
        release(deployment, key)
        store.wait_for(waiting, states.SUCCESS)
        task_id = ended(store, "add", 1, 2)
        ended(store, "fail", "too late", task_id=task_id)
        assert store.meta(task_id)["result"] == 3


@contextmanager
def begun_without_store(store: Store, task: str) -> Generator[tuple[str, str]]:
    """A task whose state STARTED could not be stored, and the key that it waits for."""
    store.start()
    ended(store, "add", 1, 2)
    with outage(store.server, "gone"):
        key = fresh_key()
        waiting = store.send(task, key)
        store.deployment.wait_for_line("Cannot store a result")
        yield waiting, key


def test_a_state_that_a_store_away_has_missed_is_stored_when_it_is_back(store: Store) -> None:
    with begun_without_store(store, "wait_for") as (waiting, key):
        pass

    store.wait_for(waiting, states.STARTED)
    release(store.deployment, key)
    store.wait_for(waiting, states.SUCCESS)


@pytest.mark.parametrize(
    ("task", "last"), [("wait_for", states.SUCCESS), ("wait_for_and_fail", states.FAILURE)]
)
def test_the_last_state_waits_for_one_that_was_missed(store: Store, task: str, last: str) -> None:
    with begun_without_store(store, task) as (waiting, key):
        release(store.deployment, key)

    store.wait_for(waiting, last)
    # What is missed is tried again every half second.
    time.sleep(1.5)
    assert store.state(waiting) == last
