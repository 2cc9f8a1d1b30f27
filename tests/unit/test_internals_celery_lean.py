"""What the lean path of the asyncio pool relies on in Celery beyond its public names."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task
from celery.app import autoretry, trace
from celery.app.task import Context
from celery.loaders.app import AppLoader
from celery.worker import state, strategy
from celery.worker.request import Request
from kombu import Connection
from kombu.message import Message
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, untyped
from tomskit.celery._internals import celery_lean
from tomskit.celery.asyncio_pool.lean_request import LeanRequest

ATTRIBUTES = (
    *("_message", "_request_dict", "_body", "_app", "_utc", "_decoded", "_content_type"),
    *("_content_encoding", "_Request__payload", "_type", "_root_id", "_parent_id", "_argsrepr"),
    *("_kwargsrepr", "_on_ack", "_on_reject", "_hostname", "_eventer", "_connection_errors"),
    *("_task", "_ignore_result", "_eta", "_expires", "_delivery_info", "_args", "_kwargs"),
)


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery(
        "tests", broker="memory://", backend="cache+memory://", set_as_current=False
    ) as app:
        yield app


@pytest.fixture
def task(app: Celery) -> Any:
    def add(a: int, b: int) -> int:
        return a + b

    untyped(app).task(name="add", shared=False)(add)
    app.finalize()
    return app.tasks["add"]


@pytest.fixture
def message(app: Celery, task: Any) -> Iterator[Message]:
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


def state_of(request: Any) -> dict[str, Any]:
    found = {name: getattr(request, name) for name in (*ATTRIBUTES, "id", "name", "time_limits")}
    found.update(request.__dict__)
    return found


def test_a_lean_request_has_what_request_sets(app: Celery, task: Any, message: Any) -> None:
    """`Request`, whose ``__init__`` sets each of the names above."""
    celerys = untyped(Request)(
        message, body=message.body, headers=message.headers, utc=True, **parts(app, task, message)
    )
    lean = LeanRequest(message=message, payload=message.payload, **parts(app, task, message))
    assert state_of(lean) == state_of(celerys)
    slots = {name for name in untyped(Request).__slots__ if not name.startswith("__")}
    assert all(hasattr(lean, name) for name in slots)


def test_default_makes_a_handler_with_these_arguments() -> None:
    assert_accepts(strategy, "default", "task", "app", "consumer")
    source = inspect.getsource(strategy.default)
    assert "def task_message_handler(message, body, ack, reject, callbacks" in source


def test_log_lines() -> None:
    assert_has(trace, "LOG_SUCCESS", "LOG_RECEIVED", "info", "safe_repr", "logger")
    assert_has(strategy, "logger")
    names = {"id": "1", "name": "n", "args": "()", "kwargs": "{}", "eta": None}
    assert untyped(trace).LOG_RECEIVED % names
    assert untyped(trace).LOG_SUCCESS % {**names, "return_value": "1", "runtime": 0.1}


def test_fast_trace_task_takes_a_body_that_is_decoded(app: Celery, task: Any, message: Any) -> None:
    trace.setup_worker_optimizations(app, "worker@host")
    try:
        task.__trace__ = untyped(trace.build_tracer)("add", task, app=app)
        lean = LeanRequest(message=message, payload=message.payload, **parts(app, task, message))
        tracer, arguments = celery_lean.trace_again(lean, None)
        assert tracer is untyped(trace).fast_trace_task
        failed, shown, _ = untyped(tracer)(*arguments)
        assert (failed, shown) == (0, "3")
    finally:
        trace.reset_worker_optimizations(app)


def test_the_context_is_that_of_the_tracer(app: Celery, task: Any, message: Any) -> None:
    """`Context`, its ``_protected``, which Celery sets for a call by the worker."""
    assert untyped(Context)._protected == 0
    assert "_protected = 1" in inspect.getsource(trace)
    lean = LeanRequest(message=message, payload=message.payload, **parts(app, task, message))
    context = untyped(celery_lean.new_context(lean))
    assert context._protected == 1
    assert (context.id, context.args, context.retries) == (lean.id, [1, 2], 0)
    assert context.called_directly is False


def test_task_has_custom_and_the_tracer_of_a_task(app: Celery, task: Any) -> None:
    """`task_has_custom`, ``__trace__``."""

    class Hooked(Task[..., Any]):
        @override
        def on_success(self, *_: Any, **__: Any) -> None: ...

    class Called(Task[..., Any]):
        @override
        def __call__(self, *_: object) -> object: ...

    assert not celery_lean.has_hooks(task)
    assert celery_lean.has_hooks(Hooked())
    assert celery_lean.has_hooks(Called())
    run = task.__class__.run
    assert not celery_lean.is_run_by_celery(task, run), "it has no tracer yet"
    task.__trace__ = untyped(trace.build_tracer)("add", task, app=app)
    assert celery_lean.is_run_by_celery(task, run)
    task.run = state_of
    assert not celery_lean.is_run_by_celery(task, run), "somebody has wrapped it"


def test_add_autoretry_behaviour_wraps_run(app: Celery, task: Any) -> None:
    """`add_autoretry_behaviour`, ``_orig_run``."""
    task.__trace__ = untyped(trace.build_tracer)("add", task, app=app)
    autoretry.add_autoretry_behaviour(task, autoretry_for=(KeyError,))
    assert_has(task, "_orig_run")
    assert untyped(task.run).__code__.co_filename == autoretry.__file__


def test_the_state_of_the_worker(app: Celery, task: Any, message: Any) -> None:
    """`task_reserved`, `revoked`, `revoked_stamps`."""
    lean = LeanRequest(message=message, payload=message.payload, **parts(app, task, message))
    celery_lean.reserve(lean)
    try:
        assert untyped(state).requests[lean.id] is lean
        assert not celery_lean.is_revoked(lean.id)
        untyped(state).revoked.add(lean.id)
        assert celery_lean.is_revoked(lean.id)
        assert isinstance(state.revoked_stamps, dict)
    finally:
        untyped(state).revoked.discard(lean.id)
        untyped(state).requests.pop(lean.id, None)
        untyped(state).reserved_requests.discard(lean)


def test_a_backend_of_its_own(task: Any) -> None:
    """`_backend`, which is None where a task uses that of its app."""
    assert not celery_lean.has_backend_of_its_own(task)
    task.backend = object()
    assert celery_lean.has_backend_of_its_own(task)


def test_loaders() -> None:
    """`on_task_init` and `on_process_cleanup`, which do nothing but in loaders that define them."""

    class Closing(AppLoader):
        @override
        def on_process_cleanup(self) -> None: ...

    with Celery("tests", set_as_current=False) as plain:
        assert celery_lean.uses_default_loader_hooks(plain)
    with Celery("tests", set_as_current=False, loader=Closing) as closing:
        assert not celery_lean.uses_default_loader_hooks(closing)
