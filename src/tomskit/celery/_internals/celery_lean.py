"""Celery: what the lean path of the asyncio pool does in Celery's place for an ordinary task.

`worker.strategy.default`, its arguments and those of the handler that it makes
    For: leaving every message to Celery that has anything special.
    When it is missing: a worker with the asyncio pool cannot start: ImportError or TypeError.

`Request`, the attributes that its ``__init__`` sets: `_message`, `_request_dict`, `_body`, `_app`, `_utc`,
`_decoded`, `_content_type`, `_content_encoding`, `_Request__payload`, `_type`, `_root_id`, `_parent_id`,
`_argsrepr`, `_kwargsrepr`, `_on_ack`, `_on_reject`, `_hostname`, `_eventer`, `_connection_errors`, `_task`,
`_ignore_result`, `_eta`, `_expires`, `_delivery_info`, `_args`, `_kwargs`
    For: a request that is made without decoding the message twice. All methods are Celery's.
    When it is missing: the first message of a task is rejected; the log has an AttributeError.

`Context._protected`
    For: telling the call of a task by the worker from one in its own body, as Celery does in a worker.
    When it is missing: a task that calls itself directly would not get a request of its own.

`trace.task_has_custom` and `Task.__trace__`
    For: leaving tasks to Celery that have hooks of their own, or a tracer that somebody has replaced.
    When it is missing: an import of the asyncio pool raises ImportError; without ``__trace__`` no task
    takes the lean path.

`autoretry.add_autoretry_behaviour`, the file of the function that it makes, and `_orig_run`
    For: knowing a ``run`` that Celery has wrapped from one that somebody else has.
    When it is missing: tasks with ``autoretry_for`` do not take the lean path.

`worker.state.requests`, `reserved_requests`, `active_requests`, `successful_requests`, `total_count`,
`all_total_count`, `revoked` and `revoked_stamps`
    For: the worker's state, as ``celery inspect`` shows it.
    When it is missing: an import of the asyncio pool raises AttributeError.

`Request._already_revoked`, `on_accepted`, `on_success`, `time_start`, `worker_pid`, `acknowledge`, `send_event`, `terminate`
and `_terminate_on_ack`
    For: telling the worker's state that a task runs, and that it has succeeded; the rest is Celery's.
    When it is missing: a task on the lean path is not acknowledged; the log has an AttributeError.

`Task._backend`
    For: leaving tasks to Celery that have a result backend of their own.
    When it is missing: no task takes the lean path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from celery import Task
from celery.app import autoretry, trace
from celery.app.task import Context
from celery.loaders.base import BaseLoader
from celery.worker import request as request_module
from celery.worker import state, strategy

if TYPE_CHECKING:
    from celery import Celery

__all__ = (
    "NO_EMBED",
    "LeanRequestBase",
    "celerys_strategy",
    "has_hooks",
    "is_revoked",
    "is_run_by_celery",
    "new_context",
    "note_accepted",
    "note_success",
    "reserve",
    "uses_default_loader_hooks",
)

_trace: Final[Any] = trace
_state: Final[Any] = state
_strategy: Final[Any] = strategy
_request: Final[Any] = request_module

NO_EMBED: Final[Mapping[str, None]] = {
    "callbacks": None,
    "errbacks": None,
    "chain": None,
    "chord": None,
}
"""What a message embeds that is part of no workflow."""

_HOOKS: Final = ("before_start", "on_success", "after_return")

if TYPE_CHECKING:

    class LeanRequestBase:
        """``celery.worker.request.Request``."""

        id: str
        name: str
        time_limits: tuple[float | None, float | None]
        _apply_result: Callable[[], object] | None

        @property
        def task(self) -> Any: ...
        @property
        def type(self) -> str: ...
        @property
        def args(self) -> list[Any]: ...
        @property
        def kwargs(self) -> dict[str, Any]: ...
        @property
        def request_dict(self) -> dict[str, Any]: ...
        @property
        def ignore_result(self) -> bool: ...
        @property
        def eventer(self) -> Any: ...
        @property
        def hostname(self) -> str: ...

        _already_revoked: bool

        def revoked(self) -> bool: ...
        def on_accepted(self, pid: int, time_accepted: float) -> object: ...
        def on_success(self, failed__retval__runtime: object, **kwargs: object) -> object: ...
        def acknowledge(self) -> object: ...
        def send_event(self, type: str, **fields: object) -> object: ...  # noqa: A002 (its name)
        def terminate(self, pool: object, signal: object = None) -> object: ...

        time_start: float | None
        worker_pid: int | None
        _terminate_on_ack: tuple[object, object] | None

        def on_failure(self, info: object) -> object: ...
        def on_timeout(self, soft: bool, timeout: float) -> object: ...

else:
    LeanRequestBase = request_module.Request


def fill_request(
    request: Any,
    *,
    message: Any,
    on_ack: Callable[..., object],
    on_reject: Callable[..., object],
    app: Celery,
    hostname: str,
    eventer: Any,
    task: Any,
    connection_errors: tuple[type[BaseException], ...],
    payload: tuple[list[Any], dict[str, Any], Mapping[str, Any]],
) -> None:
    """Set what ``Request.__init__`` sets for a message with neither ETA, expiry, shadow nor stamps."""
    request._message = message
    headers: dict[str, Any] = message.headers.copy()
    request._request_dict = headers
    request._body = message.body
    request._app = app
    request._utc = True
    request._decoded = False
    request._content_type = message.content_type
    request._content_encoding = message.content_encoding
    request._Request__payload = payload
    request.id = headers["id"]
    request._type = request.name = headers["task"]
    request._root_id = headers.get("root_id")
    request._parent_id = headers.get("parent_id")
    limits = headers.get("timelimit")
    if limits:
        request.time_limits = limits
    request._argsrepr = headers.get("argsrepr", "")
    request._kwargsrepr = headers.get("kwargsrepr", "")
    request._on_ack = on_ack
    request._on_reject = on_reject
    request._hostname = hostname
    request._eventer = eventer
    request._connection_errors = connection_errors
    request._task = task
    ignored = headers.get("ignore_result")
    request._ignore_result = task.ignore_result if ignored is None else ignored
    request._eta = request._expires = None
    info: dict[str, Any] = message.delivery_info or {}
    properties: dict[str, Any] = message.properties or {}
    request._delivery_info = {
        "exchange": info.get("exchange"),
        "routing_key": info.get("routing_key"),
        "priority": properties.get("priority"),
        "redelivered": info.get("redelivered", False),
    }
    request._args, request._kwargs, _ = payload
    headers["properties"] = properties
    headers["reply_to"] = properties.get("reply_to")
    headers["correlation_id"] = properties.get("correlation_id")
    headers["hostname"] = hostname
    headers["delivery_info"] = request._delivery_info
    headers["args"] = request._args
    headers["kwargs"] = request._kwargs


def celerys_strategy(task: Any, app: Celery, consumer: Any) -> Callable[..., object]:
    """Celery's own handler of a task's messages."""
    handler: Callable[..., object] = _strategy.default(task, app, consumer)
    return handler


def has_hooks(task: Any) -> bool:
    """Whether a task has hooks that Celery calls around its body."""
    classes = type(task).__mro__
    return any(_trace.task_has_custom(task, name) for name in _HOOKS) or any(
        # Celery's own is replaced in a worker, and looks like a user's to `task_has_custom`.
        "__call__" in vars(kind)
        for kind in classes[: classes.index(Task)]
    )


def uses_default_loader_hooks(app: Celery) -> bool:
    """Whether the app's loader does nothing around a task; Django's closes its connections."""
    loader: Any = type(app.loader)
    return all(
        getattr(loader, name) is getattr(BaseLoader, name)
        for name in ("on_task_init", "on_process_cleanup")
    )


def uses_celerys_request(task: Any) -> bool:
    """Whether a task has Celery's class of requests."""
    return bool(task.Request == Task.Request)


def has_backend_of_its_own(task: Any) -> bool:
    """Whether a task's results go elsewhere than the app's."""
    return task._backend is not None


def is_run_by_celery(task: Any, run: object) -> bool:
    """Whether nobody has replaced what runs a task: its tracer, or its body, which is `run`.

    Celery's own wrapper for ``autoretry_for`` is none.
    """
    tracer = getattr(task, "__trace__", None)
    if _file_of(tracer) != trace.__file__:
        return False
    own: dict[str, object] = task.__dict__
    body = own.get("run")
    if body is not None and _file_of(body) == autoretry.__file__:
        body = own.get("_orig_run")
    return body is None or getattr(body, "__func__", None) is run


def _file_of(function: object) -> str | None:
    code = getattr(function, "__code__", None)
    return getattr(code, "co_filename", None)


def is_revoked(task_id: str) -> bool:
    """Whether a task, or any task by a stamp, was revoked."""
    return task_id in _state.revoked or bool(_state.revoked_stamps)


_requests: Final[dict[str, Any]] = _state.requests
_reserve: Final[Callable[[object], None]] = _state.reserved_requests.add
_activate: Final[Callable[[object], None]] = _state.active_requests.add
_unreserve: Final[Callable[[object], None]] = _state.reserved_requests.discard
_deactivate: Final[Callable[[object], None]] = _state.active_requests.discard
_add_successful: Final[Callable[[str], None]] = _state.successful_requests.add
_total: Final[Counter[str]] = _state.total_count
_total_of_all: Final[list[int]] = _state.all_total_count


def reserve(request: LeanRequestBase) -> None:
    """Note that the worker has a request; `state.task_reserved` for one that was never scheduled."""
    _requests[request.id] = request
    _reserve(request)


def note_accepted(request: LeanRequestBase) -> None:
    """Note that a task runs; `state.task_accepted`, without the dictionary that it makes."""
    _requests[request.id] = request
    _activate(request)
    _total[request.name] += 1
    _total_of_all[0] += 1


def note_success(request: LeanRequestBase, *, late: bool) -> None:
    """Note that a task has succeeded; `state.task_ready` for one that was never scheduled.

    Args:
        request: The request.
        late: Whether it is acknowledged only now. Celery looks for others nowhere among the successful.
    """
    if late:
        _add_successful(request.id)
    _requests.pop(request.id, None)
    _deactivate(request)
    _unreserve(request)


def new_context(request: LeanRequestBase) -> Context:
    """What ``self.request`` is in the task of a request."""
    known: Any = Context
    made: Context = known(
        request.request_dict,
        args=request.args,
        kwargs=request.kwargs,
        called_directly=False,
        is_eager=False,
        **NO_EMBED,
        # The body has been called: what it calls directly is another call.
        _protected=1,
    )
    return made
