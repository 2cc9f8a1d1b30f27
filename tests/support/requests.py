"""A task of plain Celery, a message for it, and what a request is made of."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.message import Message

from tests.support.contracts import untyped


@contextmanager
def plain_app() -> Generator[Celery]:
    """An app in memory with a task ``add``."""
    with Celery(
        "tests", broker="memory://", backend="cache+memory://", set_as_current=False
    ) as app:

        def add(a: int, b: int) -> int:
            return a + b

        untyped(app).task(name="add", shared=False)(add)
        app.finalize()
        yield app


@contextmanager
def received(task: Any) -> Generator[Message]:
    """A message that calls a task with 1 and 2."""
    with Connection("memory://") as connection:
        task.apply_async((1, 2), connection=connection, ignore_result=True, priority=3)
        with connection.SimpleQueue("celery") as queue:
            yield queue.get(timeout=5)


def parts(app: Celery, task: Any, message: Any) -> dict[str, Any]:
    return {
        "on_ack": message.ack,
        "on_reject": message.reject,
        "app": app,
        "hostname": "worker@host",
        "eventer": None,
        "task": task,
        "connection_errors": (OSError,),
    }
