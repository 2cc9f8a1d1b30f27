"""What is relied on in Celery's tracer beyond its public names."""

import inspect
from typing import Any

import pytest
from celery import Celery, signals
from celery.app import trace

from tests.support.contracts import untyped
from tests.support.requests import parts
from tomskit.celery._internals.celery_replay import trace_again
from tomskit.celery._internals.celery_request import LeanRequest


@pytest.mark.parametrize("is_announced", [False, True])
def test_fast_trace_task_takes_a_body_that_is_decoded(
    celery_app: Celery, celery_task: Any, celery_message: Any, is_announced: bool
) -> None:
    """`fast_trace_task`, its ``_loc``; `build_tracer`, and its ``send_prerun``."""
    assert "_loc" in inspect.signature(untyped(trace).fast_trace_task).parameters
    calls: list[str] = []

    def before(**_: object) -> None:
        calls.append("before")

    def after(**_: object) -> None:
        calls.append("after")

    trace.setup_worker_optimizations(celery_app, "worker@host")
    signals.task_prerun.connect(before)
    signals.task_postrun.connect(after)
    try:
        celery_task.__trace__ = untyped(trace.build_tracer)("add", celery_task, app=celery_app)
        lean = LeanRequest(
            message=celery_message,
            payload=celery_message.payload,
            **parts(celery_app, celery_task, celery_message),
        )
        tracer, arguments = trace_again(lean, None, is_announced=is_announced)
        failed, shown, _ = untyped(tracer)(*arguments)
        assert (failed, shown) == (0, "3")
        assert calls == (["after"] if is_announced else ["before", "after"])
    finally:
        signals.task_prerun.disconnect(before)
        signals.task_postrun.disconnect(after)
        trace.reset_worker_optimizations(celery_app)
