"""What tests ask and tell workers: by remote control, events, keys in Redis and the log."""

import json
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast
from uuid import uuid4

from celery import states
from celery.app.control import Inspect
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.patience import patience

Result = AsyncResult[object]
Events = list[dict[str, object]]


def fresh_key() -> str:
    return uuid4().hex


def release(deployment: Deployment, key: str) -> None:
    """Set the key that a task waits for."""
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        client.set(key, "released")


def state(sent: Result) -> str:
    # celery-types knows neither REVOKED nor states of one's own.
    return str(sent.state)


def until_it_hears(deployment: Deployment) -> None:
    """Wait for the one worker to have subscribed to commands, which it does after it is ready."""
    eventually(lambda: bool(deployment.client.control.ping(timeout=patience(1), limit=1)))


def inspect(deployment: Deployment) -> Inspect:
    until_it_hears(deployment)
    # The first answer will do, since there is one worker.
    return deployment.client.control.inspect(timeout=TIMEOUT, limit=1)


def answers(replies: object) -> list[object]:
    """What the one worker answered."""
    [answer] = cast("dict[str, list[object]]", replies).values()
    return answer


def control(deployment: Deployment, command: str, **arguments: object) -> None:
    """Tell the one worker something and wait until it has done it."""
    until_it_hears(deployment)
    broadcast = cast("Callable[..., object]", deployment.client.control.broadcast)
    assert broadcast(command, arguments=arguments, reply=True, timeout=TIMEOUT, limit=1)


def queue_length(deployment: Deployment, queue: str) -> int:
    with deployment.redis.client(deployment.redis_db.broker_db) as client:
        length: int = client.llen(queue)
        return length


@contextmanager
def received_events(deployment: Deployment) -> Generator[list[dict[str, object]]]:
    """The events that workers send meanwhile, as a monitor receives them."""
    seen: list[dict[str, object]] = []
    with deployment.client.connection_for_read() as connection:
        receiver = deployment.client.events.Receiver(connection, handlers={"*": seen.append})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        thread.start()
        try:
            yield seen
        finally:
            receiver.should_stop = True
            thread.join()


@contextmanager
def monitor(deployment: Deployment) -> Generator[Events]:
    with received_events(deployment) as seen:

        def listening() -> bool:
            deployment.client.control.heartbeat()
            return bool(seen)

        eventually(listening)
        yield seen


def events_of(seen: Events, sent: Result) -> list[str]:
    return [str(event["type"]) for event in seen if event.get("uuid") == sent.id]


def started(sent: Result) -> Result:
    """Wait until a task runs."""
    eventually(lambda: state(sent) == states.STARTED)
    return sent


def pool_of(deployment: Deployment) -> dict[str, object]:
    """What `inspect stats` tells of the pool."""
    answers = cast("dict[str, dict[str, dict[str, object]]]", inspect(deployment).stats())
    [stats] = answers.values()
    return stats["pool"]


def is_idle(deployment: Deployment) -> bool:
    pool = pool_of(deployment)
    return pool["running"] == pool["waiting"] == 0


def lines_about(deployment: Deployment, sent: Result, pattern: str) -> list[str]:
    """What the lines of the log that name a task have in place of the pattern's group."""
    found = [re.search(pattern, line) for line in deployment.log.splitlines() if sent.id in line]
    return [match[1] for match in found if match is not None]


def signals_of(deployment: Deployment, sent: Result) -> list[str]:
    """The signals that were sent for a task, in their order."""
    return lines_about(deployment, sent, rf"signal (\S+) of {sent.id}")


def list_of(deployment: Deployment, key: str) -> list[str]:
    with deployment.redis.client(deployment.redis_db.result_db) as client:
        return cast("list[str]", client.lrange(key, 0, -1))


def unacked(deployment: Deployment, sent: Result) -> bool:
    """Whether the broker would deliver the task again, should the worker die."""
    with deployment.redis.client(deployment.redis_db.broker_db) as client:
        values = cast("list[str]", client.hvals("unacked"))
    messages = [json.loads(value)[0] for value in values]
    return sent.id in [message["headers"]["id"] for message in messages]
