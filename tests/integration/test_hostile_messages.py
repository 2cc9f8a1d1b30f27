"""Messages that no worker can read: each is rejected, once, and the worker goes on."""

import json
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.hostile_service import SEEN
from tests.support.deployment import TIMEOUT, Deployment, eventually, working
from tests.support.fuzzing import Target, attack, mutant
from tests.support.hostile import ODD, RAW, UNREADABLE, changed, command, encoded
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.hostile_service"

WORKERS: dict[str, tuple[Pool, str]] = {
    "asyncio": ("asyncio", "true"),
    "asyncio, kombu's path": ("asyncio", "false"),
    "prefork": ("prefork", "true"),
    "prefork, kombu's path": ("prefork", "false"),
    "threads": ("threads", "true"),
    "solo": ("solo", "true"),
    "solo, kombu's path": ("solo", "false"),
}

HOSTILE: dict[str, bytes] = {
    **RAW,
    **{kind: changed(change).encode() for kind, change in UNREADABLE.items()},
}


@pytest.fixture(scope="module", params=WORKERS)
def attacked(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool, fast = WORKERS[request.param]
    with working(
        redis_server, mariadb_server, pool, module=SERVICE, CELERY_REDIS_FAST_PATH=fast
    ) as made:
        yield made


def call(attacked: Deployment) -> object:
    answer = attacked.client.send_task("add", (2, 3))
    worker = attacked.running
    assert worker is not None
    eventually(lambda: answer.ready() or not worker.running)
    assert worker.running
    return answer.get(timeout=TIMEOUT)


def push(attacked: Deployment, raw: bytes) -> None:
    with attacked.redis.client(attacked.redis_db.broker_db) as broker:
        broker.lpush("celery", raw)


def count_calls(attacked: Deployment) -> int:
    """How many calls there were since they were taken before."""
    with attacked.redis.client(attacked.redis_db.result_db) as results:
        return int(str(results.llen(SEEN)))


def take_calls(attacked: Deployment) -> list[list[int]]:
    """The arguments of all calls since this was asked before."""
    with attacked.redis.client(attacked.redis_db.result_db) as results:
        seen = results.lrange(SEEN, 0, -1)
        results.delete(SEEN)
    return [json.loads(arguments) for arguments in seen]


def is_received(broker: Any, topic: str, raw: bytes) -> bool:
    return bool(broker.publish(topic, raw))


def is_settled(attacked: Deployment) -> bool:
    with attacked.redis.client(attacked.redis_db.broker_db) as broker:
        return not any(
            (broker.llen("celery"), broker.hlen("unacked"), broker.zcard("unacked_index"))
        )


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_message_that_cannot_be_read_is_rejected_once_and_the_worker_goes_on(
    attacked: Deployment, kind: str
) -> None:
    already = attacked.log.count(": CRITICAL")

    push(attacked, HOSTILE[kind])

    assert call(attacked) == 5
    eventually(lambda: is_settled(attacked))
    eventually(lambda: attacked.log.count(": CRITICAL") > already)
    assert attacked.log.count(": CRITICAL") == already + 1
    assert take_calls(attacked) == [[2, 3]]


COMMANDS: dict[str, bytes] = {
    **RAW,
    "headers that are a list": command(lambda m: m.update(headers=["clock"])),
    "no delivery info": command(lambda m: m["properties"].pop("delivery_info")),
    "no delivery tag": command(lambda m: m["properties"].pop("delivery_tag")),
    "body that is no base64": command(lambda m: m.update(body="%%%")),
    "content that nobody accepts": command(lambda m: m.update({"content-type": "x"})),
    "a text": command(lambda m: m.update(body=encoded("ping"))),
    "a list": command(lambda m: m.update(body=encoded(["ping"]))),
    "a method that nobody knows": command(lambda m: m.update(body=encoded({"method": "moon"}))),
    "a method that is a list": command(lambda m: m.update(body=encoded({"method": ["ping"]}))),
    "arguments that are a text": command(
        lambda m: m.update(body=encoded({"method": "ping", "arguments": "x"}))
    ),
    "destination that is a number": command(
        lambda m: m.update(body=encoded({"method": "ping", "destination": 5}))
    ),
    "reply to a list": command(
        lambda m: m.update(body=encoded({"method": "ping", "reply_to": [1]}))
    ),
    "clock that is a text": command(lambda m: m["headers"].update(clock="late")),
}


def test_remote_control_survives_commands_that_cannot_be_read(attacked: Deployment) -> None:
    topic = f"/{attacked.redis_db.broker_db}.celery.pidbox"
    with attacked.redis.client(attacked.redis_db.broker_db) as broker:
        for raw in COMMANDS.values():
            # A command that fails makes Celery subscribe anew, which takes a moment.
            eventually(partial(is_received, broker, topic, raw))

    assert call(attacked) == 5
    eventually(lambda: bool(attacked.client.control.ping(timeout=1)))
    assert take_calls(attacked) == [[2, 3]]


def test_time_limits_of_remote_control_that_are_no_numbers_end_no_worker(
    attacked: Deployment,
) -> None:
    limit = cast("Any", attacked.client.control).time_limit
    limit("add", soft="x", hard=[1], reply=True, timeout=1)

    assert call(attacked) == 5
    attacked.wait_for_line("no number of seconds in .*time_limit")
    assert take_calls(attacked) == [[2, 3]]


@pytest.mark.parametrize("kind", ODD)
def test_a_call_with_something_odd_is_the_same_call(attacked: Deployment, kind: str) -> None:
    push(attacked, changed(ODD[kind]).encode())

    assert call(attacked) == 5
    eventually(lambda: is_settled(attacked))
    # A message is acknowledged when its task begins, and another process may still be about to run it.
    eventually(lambda: count_calls(attacked) >= 2)
    assert sorted(take_calls(attacked)) == [[1, 2], [2, 3]]


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_a_header_that_is_called_as_what_follows_a_task_is_a_header(
    attacked: Deployment, name: str, fails: bool
) -> None:
    task_id = uuid4().hex
    nothing: dict[str, object] = {}
    follower: dict[str, object] = {
        "task": "add",
        "args": [7, 7],
        "kwargs": nothing,
        "options": nothing,
    }
    follows: list[dict[str, object]] = [{"a": 1}, follower] if name == "errbacks" else [follower]
    embedded = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    arguments = [["x", 2] if fails else [1, 2], {}, embedded]

    def change(message: Any) -> None:
        message.update(body=encoded(arguments))
        message["headers"].update({"id": task_id, "root_id": task_id, "group": "g"})
        message["headers"][name] = follower if name == "chord" else follows

    push(attacked, changed(change).encode())

    answer = attacked.client.AsyncResult(task_id)
    eventually(answer.ready)
    assert answer.state == ("FAILURE" if fails else "SUCCESS")
    assert call(attacked) == 5
    eventually(lambda: is_settled(attacked))
    assert "Cannot store a result" not in attacked.log
    assert [7, 7] not in take_calls(attacked)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_ends_the_worker_or_runs_with_arguments_that_were_not_sent(
    attacked: Deployment, seed: int
) -> None:
    random = Random(seed)
    assert attacked.running is not None
    with (
        attacked.redis.client(attacked.redis_db.broker_db) as broker,
        attacked.redis.client(attacked.redis_db.result_db) as results,
    ):
        target = Target(attacked.running, attacked.client, broker, results)
        attack(target, [mutant(random) for _ in range(40)])
