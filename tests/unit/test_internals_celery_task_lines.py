"""What is relied on in Celery's log lines and events of a task beyond their public names."""

import inspect
from types import SimpleNamespace
from typing import Any

from celery import Celery
from celery.app import trace
from celery.events import EventDispatcher
from celery.worker import strategy

from tests.support.contracts import assert_has, untyped
from tests.support.requests import parts
from tomskit.celery._internals import celery_task_lines
from tomskit.celery._internals.celery_request import LeanRequest


def test_log_lines() -> None:
    """`LOG_SUCCESS`, `LOG_RECEIVED`, `info`, `safe_repr`, `strategy.logger`."""
    assert_has(trace, "LOG_SUCCESS", "LOG_RECEIVED", "info", "safe_repr", "logger")
    assert_has(strategy, "logger")
    names = {"id": "1", "name": "n", "args": "()", "kwargs": "{}", "eta": None}
    assert untyped(trace).LOG_RECEIVED % names
    assert untyped(trace).LOG_SUCCESS % {**names, "return_value": "1", "runtime": 0.1}


def test_events_of_tasks_are_sent_where_a_monitor_wants_them(celery_app: Celery) -> None:
    """`EventDispatcher`, its ``enabled`` and ``groups``."""
    with celery_app.connection_for_write() as connection:
        heartbeats = EventDispatcher(connection, enabled=False, app=celery_app, groups=["worker"])
        everything = EventDispatcher(connection, enabled=False, app=celery_app)
        assert not celery_task_lines.sends_events(everything), "it is not enabled"
        for dispatcher in (heartbeats, everything):
            untyped(dispatcher).enabled = True
        assert not celery_task_lines.sends_events(heartbeats)
        assert celery_task_lines.sends_events(everything)
        untyped(heartbeats).groups.add("task")
        assert celery_task_lines.sends_events(heartbeats)


def test_a_request_has_what_sends_events(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`Request._eventer`, which a new connection of the worker replaces."""
    known = parts(celery_app, celery_task, celery_message)
    known["eventer"] = SimpleNamespace(enabled=False)
    lean: Any = LeanRequest(message=celery_message, payload=celery_message.payload, **known)
    assert not celery_task_lines.shows_success(lean)
    lean.eventer = SimpleNamespace(enabled=True, groups=None)
    assert celery_task_lines.shows_success(lean)


def test_the_event_that_a_task_was_received(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """``task-received``, with the fields that the strategy gives it."""
    sent: dict[str, Any] = {}

    def send(kind: str, **fields: object) -> None:
        sent[kind] = fields

    known = parts(celery_app, celery_task, celery_message)
    known["eventer"] = SimpleNamespace(send=send)
    lean = LeanRequest(message=celery_message, payload=celery_message.payload, **known)
    celery_task_lines.send_received(lean)
    source = inspect.getsource(strategy.default)
    begin = source.index("'task-received',")
    call = source[begin : source.index("bucket = None", begin)]
    fields = sent["task-received"]
    assert all(f"{name}=" in call for name in fields)
    assert call.count("=") == len(fields)
