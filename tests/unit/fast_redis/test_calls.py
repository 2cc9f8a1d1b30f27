"""Which messages only say what to call."""

from typing import Any, Final

import pytest
from celery import Celery
from kombu import Connection

from tests.support.contracts import untyped
from tests.support.requests import plain_app
from tomskit.celery.fast_redis.calls import ordinary_call

ORDINARY: Final[dict[str, dict[str, Any]]] = {
    "no options": {},
    "priority": {"priority": 3},
    "limits": {"soft_time_limit": 1, "time_limit": 2.5},
    "queue": {"queue": "celery", "routing_key": "celery"},
    "parts of a workflow": {"root_id": "a", "parent_id": "b", "group_id": "c"},
    "retries": {"retries": 2},
    "ignored": {"ignore_result": True},
    "headers": {"headers": {"trace": "1"}},
}
SPECIAL: Final[dict[str, dict[str, Any]]] = {
    "eta": {"countdown": 60},
    "expiry": {"expires": 60},
    "shadow": {"shadow": "another"},
    "stamps": {"headers": {"stamped_headers": ["a"], "stamps": {"a": "b"}}},
    "replaced": {"replaced_task_nesting": 1},
    "another serializer": {"serializer": "pickle"},
    "a name that is not ASCII": {"root_id": "\u00e9"},
}


def sent(app: Celery, **options: Any) -> Any:
    """A message that calls a task with these options."""
    link = options.pop("linked", False)
    task: Any = app.tasks["add"]
    with Connection("memory://") as connection:
        if link:
            options["link"] = task.s(3)
        task.apply_async((1,), {"b": 2}, connection=connection, **options)
        return untyped(connection.channel()).basic_get("celery")


@pytest.mark.parametrize("name", ORDINARY)
def test_messages_that_only_say_what_to_call(name: str) -> None:
    with plain_app() as app:
        message = sent(app, **ORDINARY[name])
        assert ordinary_call(message) == ([1], {"b": 2})
        assert ordinary_call(message) is ordinary_call(message)


@pytest.mark.parametrize("name", [*SPECIAL, "link"])
def test_messages_that_say_more(name: str) -> None:
    with plain_app() as app:
        assert ordinary_call(sent(app, **SPECIAL.get(name, {"linked": True}))) is None
