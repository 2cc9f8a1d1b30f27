"""What the lean path of the asyncio pool relies on in Celery beyond its public names."""

import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, Task
from celery.app import autoretry, trace
from celery.app.task import Context
from celery.loaders.app import AppLoader
from celery.worker import state, strategy
from celery.worker.request import Request
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, untyped
from tests.support.requests import parts
from tomskit.celery._internals import celery_lean
from tomskit.celery.asyncio_pool.lean_request import LeanRequest

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


def test_default_makes_a_handler_with_these_arguments() -> None:
    assert_accepts(strategy, "default", "task", "app", "consumer")
    source = inspect.getsource(strategy.default)
    assert "def task_message_handler(message, body, ack, reject, callbacks" in source


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
    context = untyped(celery_lean.new_context(lean))
    assert context._protected == 1
    assert (context.id, context.args, context.retries) == (lean.id, [1, 2], 0)
    assert context.called_directly is False


def test_task_has_custom_and_the_tracer_of_a_task(celery_app: Celery, celery_task: Any) -> None:
    """`task_has_custom`, ``__trace__``."""

    class Hooked(Task[..., Any]):
        @override
        def on_success(self, *_: Any, **__: Any) -> None: ...

    class Called(Task[..., Any]):
        @override
        def __call__(self, *_: object) -> object: ...

    assert not celery_lean.has_hooks(celery_task)
    assert celery_lean.has_hooks(Hooked())
    assert celery_lean.has_hooks(Called())
    run = celery_task.__class__.run
    assert not celery_lean.is_run_by_celery(celery_task, run), "it has no tracer yet"
    celery_task.__trace__ = untyped(trace.build_tracer)("add", celery_task, app=celery_app)
    assert celery_lean.is_run_by_celery(celery_task, run)
    celery_task.run = state_of
    assert not celery_lean.is_run_by_celery(celery_task, run), "somebody has wrapped it"


def test_add_autoretry_behaviour_wraps_run(celery_app: Celery, celery_task: Any) -> None:
    """`add_autoretry_behaviour`, ``_orig_run``."""
    celery_task.__trace__ = untyped(trace.build_tracer)("add", celery_task, app=celery_app)
    autoretry.add_autoretry_behaviour(celery_task, autoretry_for=(KeyError,))
    assert_has(celery_task, "_orig_run")
    assert untyped(celery_task.run).__code__.co_filename == autoretry.__file__


def test_the_state_of_the_worker(celery_app: Celery, celery_task: Any, celery_message: Any) -> None:
    """`requests`, `reserved_requests`, `active_requests`, `total_count`, `all_total_count`,
    `successful_requests`, `revoked`, `revoked_stamps`: as Celery's own functions leave them."""
    lean = LeanRequest(
        message=celery_message,
        payload=celery_message.payload,
        **parts(celery_app, celery_task, celery_message),
    )
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
    for notes in (
        (
            reserved.task_reserved,
            reserved.task_accepted,
            partial(reserved.task_ready, successful=True),
        ),
        (
            celery_lean.reserve,
            celery_lean.note_accepted,
            partial(celery_lean.note_success, late=True),
        ),
    ):
        reserved.reset_state()
        found.append([])
        for note in notes:
            note(lean)
            found[-1].append(seen())
    assert found[0] == found[1]
    assert celery_lean.is_revoked(lean.id) is False
    reserved.revoked.add(lean.id)
    assert celery_lean.is_revoked(lean.id)
    assert isinstance(state.revoked_stamps, dict)
    reserved.reset_state()


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


def test_a_backend_of_its_own(celery_task: Any) -> None:
    """`_backend`, which is None where a task uses that of its app."""
    assert not celery_lean.has_backend_of_its_own(celery_task)
    celery_task.backend = object()
    assert celery_lean.has_backend_of_its_own(celery_task)


def test_loaders() -> None:
    """`on_task_init` and `on_process_cleanup`, which do nothing but in loaders that define them."""

    class Closing(AppLoader):
        @override
        def on_process_cleanup(self) -> None: ...

    with Celery("tests", set_as_current=False) as plain:
        assert celery_lean.uses_default_loader_hooks(plain)
    with Celery("tests", set_as_current=False, loader=Closing) as closing:
        assert not celery_lean.uses_default_loader_hooks(closing)
