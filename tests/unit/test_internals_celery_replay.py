"""What is relied on in Celery's tracer beyond its public names."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery.app import trace
from kombu.message import Message

from tests.support.contracts import untyped
from tests.support.requests import parts, plain_app, received
from tomskit.celery._internals.celery_replay import trace_again
from tomskit.celery.asyncio_pool.lean_request import LeanRequest


@pytest.fixture
def app() -> Iterator[Celery]:
    with plain_app() as app:
        yield app


@pytest.fixture
def task(app: Celery) -> Any:
    return app.tasks["add"]


@pytest.fixture
def message(task: Any) -> Iterator[Message]:
    with received(task) as message:
        yield message


@pytest.mark.parametrize("is_announced", [False, True])
def test_fast_trace_task_takes_a_body_that_is_decoded(
    app: Celery, task: Any, message: Any, is_announced: bool
) -> None:
    """`fast_trace_task`, its ``_loc``; `build_tracer`, and its ``send_prerun``."""
    assert "_loc" in inspect.signature(untyped(trace).fast_trace_task).parameters
    calls: list[str] = []

    def before(**_: object) -> None:
        calls.append("before")

    def after(**_: object) -> None:
        calls.append("after")

    trace.setup_worker_optimizations(app, "worker@host")
    signals.task_prerun.connect(before)
    signals.task_postrun.connect(after)
    try:
        task.__trace__ = untyped(trace.build_tracer)("add", task, app=app)
        lean = LeanRequest(message=message, payload=message.payload, **parts(app, task, message))
        tracer, arguments = trace_again(lean, None, is_announced=is_announced)
        failed, shown, _ = untyped(tracer)(*arguments)
        assert (failed, shown) == (0, "3")
        assert calls == (["after"] if is_announced else ["before", "after"])
    finally:
        signals.task_prerun.disconnect(before)
        signals.task_postrun.disconnect(after)
        trace.reset_worker_optimizations(app)
