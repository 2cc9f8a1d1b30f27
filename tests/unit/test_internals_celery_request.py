"""What tomskit relies on in Celery's request of a task beyond its public names."""

import inspect
import logging
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.app import trace
from celery.app.task import Context
from celery.worker import request as request_module
from celery.worker import state
from celery.worker.request import Request

from tests.support.contracts import untyped
from tests.support.requests import parts
from tomskit.celery._internals.celery_request import (
    LeanRequest,
    WorkerRequest,
    is_revoked,
    new_context,
    reserve,
)

ATTRIBUTES = (
    *("_message", "_request_dict", "_body", "_app", "_utc", "_decoded", "_content_type"),
    *("_content_encoding", "_Request__payload", "_type", "_root_id", "_parent_id", "_argsrepr"),
    *("_kwargsrepr", "_on_ack", "_on_reject", "_hostname", "_eventer", "_connection_errors"),
    *("_task", "_ignore_result", "_eta", "_expires", "_delivery_info", "_args", "_kwargs"),
)


def state_of(request: Any) -> dict[str, Any]:
    found = {name: getattr(request, name) for name in (*ATTRIBUTES, "id", "name", "time_limits")}
    found.update(request.__dict__)
    return found


def ignore(*_: object) -> None: ...


def test_a_lean_request_has_what_request_sets(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`Request`, whose ``__init__`` sets each of the names above."""
    celerys = untyped(Request)(
        celery_message,
        body=celery_message.body,
        headers=celery_message.headers,
        utc=True,
        **parts(celery_app, celery_task, celery_message),
    )
    lean = LeanRequest(
        message=celery_message,
        payload=celery_message.payload,
        **parts(celery_app, celery_task, celery_message),
    )
    assert state_of(lean) == state_of(celerys)
    slots = {name for name in untyped(Request).__slots__ if not name.startswith("__")}
    assert all(hasattr(lean, name) for name in slots)


def test_the_context_is_that_of_the_tracer(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`Context`, its ``_protected``, which Celery sets for a call by the worker."""
    assert untyped(Context)._protected == 0
    assert "_protected = 1" in inspect.getsource(trace)
    lean = LeanRequest(
        message=celery_message,
        payload=celery_message.payload,
        **parts(celery_app, celery_task, celery_message),
    )
    context = untyped(new_context(lean))
    assert context._protected == 1
    assert (context.id, context.args, context.retries) == (lean.id, [1, 2], 0)
    assert context.called_directly is False


def test_the_state_of_the_worker(celery_app: Celery, celery_task: Any, celery_message: Any) -> None:
    """`requests`, `reserved_requests`, `active_requests`, `total_count`, `all_total_count`,
    `successful_requests`, `revoked`, its ``_data``, `revoked_stamps`: as Celery's own functions leave them."""
    celery_task.acks_late = True
    lean = LeanRequest(
        message=celery_message,
        payload=celery_message.payload,
        **parts(celery_app, celery_task, celery_message),
    )
    untyped(lean)._on_ack = ignore
    reserved = untyped(state)

    def seen() -> tuple[object, ...]:
        return (
            reserved.requests.get(lean.id),
            lean in reserved.reserved_requests,
            lean in reserved.active_requests,
            lean.id in reserved.successful_requests,
            reserved.total_count["add"],
            reserved.all_total_count[0],
        )

    found: list[list[tuple[object, ...]]] = []
    ways: tuple[tuple[Callable[[Any], object], ...], ...] = (
        (
            reserved.task_reserved,
            reserved.task_accepted,
            partial(reserved.task_ready, successful=True),
        ),
        (
            reserve,
            lambda request: request.on_accepted(7, time.monotonic()),
            lambda request: request.on_success((0, "3", 0.1)),
        ),
    )
    for notes in ways:
        reserved.reset_state()
        found.append([])
        for note in notes:
            note(lean)
            found[-1].append(seen())
    assert found[0] == found[1]
    assert is_revoked(lean.id) is False
    reserved.revoked.add(lean.id)
    assert is_revoked(lean.id)
    reserved.reset_state()
    assert is_revoked(lean.id) is False
    reserved.merge_revoked([lean.id])
    assert is_revoked(lean.id)
    reserved.reset_state()
    reserved.revoked_stamps["stamp"] = ["value"]
    assert is_revoked(lean.id), "any task may have it"
    reserved.reset_state()
    assert is_revoked(lean.id) is False


def test_celery_logs_at_debug_that_a_task_was_accepted(
    celery_app: Celery,
    celery_task: Any,
    celery_message: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`request._does_debug`."""
    lean = LeanRequest(
        message=celery_message,
        payload=celery_message.payload,
        **parts(celery_app, celery_task, celery_message),
    )
    untyped(lean)._on_ack = ignore
    with caplog.at_level(logging.DEBUG, logger="celery.worker.request"):
        lean.on_accepted(7, time.monotonic())
        assert "Task accepted" not in caplog.text
        monkeypatch.setattr(request_module, "_does_debug", True)
        lean.on_accepted(7, time.monotonic())
    assert "Task accepted" in caplog.text


def test_a_request_tells_that_it_runs_and_has_succeeded(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`on_accepted`, `on_success`, `time_start`, `worker_pid`, `acknowledge`, `send_event`, `terminate`,
    `_terminate_on_ack`."""

    def run(kind: Callable[[], Any]) -> list[object]:
        calls: list[object] = []
        request = kind()

        def on_ack(*_: object) -> None:
            calls.append("acknowledged")

        def terminate(*args: object) -> None:
            calls.append(args)

        request._on_ack, request.terminate = on_ack, terminate
        request._terminate_on_ack = ("pool", 15)
        request._already_revoked = False
        untyped(state).task_reserved(request)
        request.on_accepted(7, time.monotonic())
        calls.append((request.worker_pid, abs(request.time_start - time.time()) < 60))
        request.on_success((0, "3", 0.1))
        calls.append(request.id in untyped(state).requests)
        untyped(state).reset_state()
        return calls

    class Plain(untyped(Request)):  # type: ignore[misc]
        """With a dictionary, to replace methods in."""

    class Lean(LeanRequest):
        """As above."""

    celerys = run(
        lambda: Plain(
            celery_message,
            body=celery_message.body,
            headers=celery_message.headers,
            utc=True,
            **parts(celery_app, celery_task, celery_message),
        )
    )
    lean = run(
        lambda: Lean(
            message=celery_message,
            payload=celery_message.payload,
            **parts(celery_app, celery_task, celery_message),
        )
    )
    assert lean == celerys == ["acknowledged", ("pool", 15), (7, True), False]


def test_a_task_is_terminated_by_the_job_that_the_pool_has_made(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`_apply_result`, which `terminate` calls for the job."""

    class Job:
        def terminate(self, signal: object) -> None:
            ended.append(signal)

    ended: list[object] = []
    job = Job()
    lean = LeanRequest(
        message=celery_message,
        payload=celery_message.payload,
        **parts(celery_app, celery_task, celery_message),
    )
    pool = SimpleNamespace(apply_lean={lean: job}.get)
    assert untyped(lean).execute_using_pool(pool) is job
    lean.terminate("pool", 15)
    assert ended == [15]
    assert untyped(lean)._terminate_on_ack == ("pool", 15)


def test_a_request_of_celery_raises_a_memory_error_before_it_acknowledges(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`Request.on_failure`, which WorkerRequest overrides."""
    celery_task.acks_late = True
    acknowledged: list[str] = []

    def request_of(kind: type[Request]) -> Any:
        def acknowledge(*_: object) -> None:
            acknowledged.append(kind.__name__)

        return untyped(kind)(
            celery_message,
            body=celery_message.body,
            headers=celery_message.headers,
            utc=True,
            **{
                **parts(celery_app, celery_task, celery_message),
                "on_ack": acknowledge,
            },
        )

    try:
        raise MemoryError("too much")
    except MemoryError:
        failed = ExceptionInfo()

    with pytest.raises(MemoryError):
        request_of(Request).on_failure(failed, return_ok=True)
    request_of(untyped(WorkerRequest)).on_failure(failed, return_ok=True)
    assert acknowledged == ["WorkerRequest"]


def test_a_request_of_celery_takes_the_error_of_a_lost_worker_for_the_end_of_its_process(
    celery_app: Celery, celery_task: Any, celery_message: Any
) -> None:
    """`Request.on_failure`, its ``return_ok``, which says that the task itself has raised it."""
    celery_task.acks_late = celery_task.reject_on_worker_lost = True
    told: list[str] = []

    def request_of(kind: type[Request]) -> Any:
        def tell(what: str) -> Callable[..., None]:
            return lambda *_: told.append(f"{kind.__name__} {what}")

        return untyped(kind)(
            celery_message,
            body=celery_message.body,
            headers=celery_message.headers,
            utc=True,
            **{
                **parts(celery_app, celery_task, celery_message),
                "on_ack": tell("acknowledges"),
                "on_reject": tell("rejects"),
            },
        )

    try:
        raise WorkerLostError("that of another task")
    except WorkerLostError:
        failed = ExceptionInfo()

    request_of(Request).on_failure(failed, return_ok=True)
    request_of(untyped(WorkerRequest)).on_failure(failed, return_ok=True)
    request_of(untyped(WorkerRequest)).on_failure(failed)
    assert told == ["Request rejects", "WorkerRequest acknowledges", "WorkerRequest rejects"]
