"""What a task class has of its coroutine function: the ``run`` method, which Celery calls, and more."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Never, Protocol, TypeVar

from celery import Celery, Task
from celery.exceptions import TimeLimitExceeded

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery import stack_of, task_stack
from tomskit.celery._internals.celery_tasks import CALLS_OF_TASKS, HEADER, head_from_fun
from tomskit.celery._outbox.databases import database_of
from tomskit.celery._running.gate import gate
from tomskit.celery._running.odd_errors import raise_showable
from tomskit.celery._running.places import Identity, LeanCall, here, place_of_task
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._running.strays import lineage
from tomskit.celery._tasks.replacing import run_replaced
from tomskit.celery._tasks.reporting import end_reports, reporters
from tomskit.celery._values.codec import Codec
from tomskit.errors import TaskArgumentsError, TaskResultError

if TYPE_CHECKING:
    from celery.app.task import Context

    from tomskit.celery._tasks.functions import CoroutineFunction
    from tomskit.sqlalchemy.database import Database

__all__ = ("RUN_LEAN", "bodies_of", "members_of", "run_for", "runs_lean")

R = TypeVar("R")

RUN_LEAN: Final = "_tomskit_run_lean"
"""The method that runs a task without Celery's tracer; called with the `LeanCall`, args and kwargs."""

_running: Final[ContextVar[Identity | None]] = ContextVar("tomskit_running", default=None)
"""The call whose body runs, under Celery's tracer or called directly by another body."""


def run_for(task: Task[..., Any], coro: Coroutine[object, Never, R]) -> R:
    """Run a coroutine of a task to its end, on the runtime of its app and in the task's scopes."""
    app: Celery = task.app
    # A runtime of a user's own watches over no forks.
    process = lineage.here
    try:
        return app.runtime_host.run(coro) if isinstance(app, AsyncApp) else AsyncRuntime.run(coro)
    finally:
        if lineage.here is not process:
            lineage.end()


class _HasRequest(Protocol):
    @property
    def request(self) -> Context | None: ...


def _run_body(
    task: Task[..., Any],
    coro: Coroutine[object, Never, R],
) -> R:
    closed = gate.closed()
    try:
        if closed is not None:
            gate.open()
        value = run_for(task, coro)
    except BaseException as exc:
        if closed is not None:
            gate.state = closed
            # Does nothing to one that has begun.
            coro.close()
        if reporters:
            _end_reports(task, task, exc)
        raise
    if closed is not None:
        gate.state = closed
    if reporters:
        _end_reports(task, task)
    return value


def _end_reports(
    task: Task[..., Any], call: _HasRequest, error: BaseException | None = None
) -> None:
    # Whoever has reported has asked for the request.
    if (request := call.request) is not None:
        end_reports(request, functools.partial(run_for, task), error)


def members_of(
    function: CoroutineFunction,
    *,
    name: str,
    bind: bool,
    never_retried: Iterable[type[Exception]] = (),
) -> dict[str, Any]:
    """The attributes of a task of this coroutine function."""
    members = {
        "_tomskit_function": staticmethod(function),
        "_tomskit_bind": bind,
        "_tomskit_codec": Codec(function, name=name, bind=bind),
        "dont_autoretry_for": (
            *never_retried,
            # As under prefork, where a task that exceeds its hard limit is never retried.
            TimeLimitExceeded,
            # A retry would get the same arguments, or do the same work again.
            TaskArgumentsError,
            TaskResultError,
        ),
    }
    if not bind:
        # By its header Celery tells an error callback that takes (request, exc, traceback) from one
        # that takes a task id. For Celery every task here is bound, and the header that it makes of
        # a bound task is always one of the latter.
        members[HEADER] = staticmethod(head_from_fun(function))
    return members


def bodies_of(
    function: Callable[..., Coroutine[object, Never, object]], codec: Codec, *, bind: bool
) -> dict[str, Callable[..., object]]:
    """The methods that run a coroutine function, by the names that they have in a task's class.

    ``run`` is a plain function, because Celery does not await what it calls.
    """

    def begin(
        task: Task[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Coroutine[object, Never, object]:
        loaded, named = codec.load(args, kwargs)
        return function(task, *loaded, **named) if bind else function(*loaded, **named)

    def run_lean(
        self: Task[..., object], call: LeanCall, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        try:
            database = database_of(self)
            if database is None:
                coro = begin(self, args, kwargs)
            else:
                body = functools.partial(begin, self, args, kwargs)
                coro = _lean_once(self, database, call, body, codec)
            # It runs in the asyncio pool, whose app is its own.
            app: Any = self.app
            value = call.run(coro, app.runtime_host.resources)
            if reporters:
                _end_reports(self, call)
            return codec.dump_result(value) if call.is_result_sent and database is None else value
        except BaseException as exc:
            if reporters:
                _end_reports(self, call, exc)
            call.fails()
            raise_showable(exc)
            raise

    @functools.wraps(function)
    def run(self: Task[..., object], *args: object, **kwargs: object) -> object:
        place = here()
        if place is not None and (outcome := place.take_outcome()) is not None:
            return outcome()
        request = self.request
        execution = self.name, request.id, request.retries
        # To Celery, a task that its own body calls directly looks like the same call.
        is_nested = execution == _innermost()
        token = _running.set(execution)
        try:
            is_sent = not is_nested and _is_result_sent(self, request)

            dump = codec.dump_result if is_sent else _as_it_is
            body = functools.partial(begin, self, args, kwargs)
            return _result_of(self, request, body, dump, is_nested)
        except BaseException as exc:
            _fail_here(exc, is_called=is_nested or request.called_directly)
            raise
        finally:
            _running.reset(token)

    vars(run)["__signature__"] = _signature_of(function, bind=bind)
    vars(run_lean)["run"] = run
    return {"run": run, RUN_LEAN: run_lean}


def _signature_of(function: Callable[..., object], *, bind: bool) -> inspect.Signature:
    """What Celery checks a call's arguments against; it does not follow ``__wrapped__``."""
    signature = inspect.signature(function)
    if bind:
        return signature
    # Valid in front of any kind of parameter, since it is positional-only.
    task = inspect.Parameter("_task", inspect.Parameter.POSITIONAL_ONLY)
    return signature.replace(parameters=[task, *signature.parameters.values()])


def runs_lean(task: Task[..., object]) -> bool:
    """Whether ``run`` of a task's class is that of its coroutine function, and not one that overrides it."""
    kind: Any = type(task)
    # A subclass of AsyncTask may have no coroutine function at all.
    return getattr(getattr(kind, RUN_LEAN, None), "run", None) is kind.run


def _innermost() -> Identity | None:
    """The call whose body runs here."""
    running = _running.get()
    if running is None and (place := place_of_task.get()) is not None:
        return place.lean_body
    return running


def _fail_here(error: BaseException, *, is_called: bool) -> None:
    """Prepare for what Celery does with a failed task; who has called its body directly gets the error as it is."""
    place = here()
    if place is not None:
        place.fails()
    if not is_called:
        raise_showable(error)


def _result_of(
    task: Task[..., Any],
    request: Context,
    body: Callable[[], Coroutine[object, Never, object]],
    dump: Callable[[object], object],
    is_nested: bool,
) -> object:
    def run() -> object:
        database = database_of(task)
        if database is not None:
            return _run_body(task, _once(task, database, request, body, dump, is_nested))
        return dump(_run_body(task, body()))

    return run_replaced(run, dump) if request.is_eager else run()


def _is_result_sent(task: Task[..., object], request: Context) -> bool:
    """Whether the result of the running call goes into a message or to the result backend."""
    if request.called_directly:
        # The caller gets the value itself, unless it is one of two tasks of Celery's.
        caller = next(iter(stack_of(task_stack)[-2:-1]), None)
        return isinstance(caller, Task) and caller.name in CALLS_OF_TASKS
    if task.app.conf.result_serializer == "pickle":
        return False
    return _is_result_wanted(task, request)


def _is_result_wanted(task: Task[..., object], request: Context) -> bool:
    is_ignored = request.ignore_result or task.ignore_result
    return not is_ignored or bool(request.chain or request.callbacks or request.chord)


def _as_it_is(value: object) -> object:
    return value


def _lean_once(
    task: Task[..., object],
    database: Database,
    lean: LeanCall,
    body: Callable[[], Coroutine[object, Never, object]],
    codec: Codec,
) -> Coroutine[object, Never, object]:
    from tomskit.celery._outbox.once import OnceCall, run_once

    name, task_id, _ = lean.identity
    is_sent = lean.is_result_sent
    call = OnceCall(
        name=f"{name}[{task_id}]",
        task_id=task_id,
        body=body,
        dump=codec.dump_result if is_sent else _as_it_is,
        serializer=task.app.conf.result_serializer if is_sent else None,
    )
    return run_once(database, call)


def _once(  # noqa: PLR0917 (as `_result_of` has them)
    task: Task[..., object],
    database: Database,
    request: Context,
    body: Callable[[], Coroutine[object, Never, object]],
    dump: Callable[[object], object],
    is_nested: bool,
) -> Coroutine[object, Never, object]:
    from tomskit.celery._outbox.links import name_links
    from tomskit.celery._outbox.once import OnceCall, run_once

    has_message = not (is_nested or request.called_directly)
    if has_message:
        name_links(request)
    call = OnceCall(
        name=f"{task.name}[{request.id}]",
        task_id=request.id if has_message else None,
        body=body,
        dump=dump,
        serializer=task.app.conf.result_serializer if _is_result_wanted(task, request) else None,
    )
    return run_once(database, call)
