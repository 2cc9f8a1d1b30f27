"""Celery: its request of a task, made without what an ordinary message does not need.

`Request`, the attributes that its ``__init__`` sets: `_message`, `_request_dict`, `_body`, `_app`, `_utc`,
`_decoded`, `_content_type`, `_content_encoding`, `_Request__payload`, `_type`, `_root_id`, `_parent_id`,
`_argsrepr`, `_kwargsrepr`, `_on_ack`, `_on_reject`, `_hostname`, `_eventer`, `_connection_errors`, `_task`,
`_ignore_result`, `_eta`, `_expires`, `_delivery_info`, `_args`, `_kwargs`
    For: a request that is made without decoding the message twice. All methods are Celery's.
    When it is missing: the first message of a task is rejected; the log has an AttributeError.

`Request._already_revoked`, `on_accepted`, `on_success`, `time_start`, `worker_pid`, `acknowledge`, `send_event`,
`terminate`, `_terminate_on_ack`, and `_apply_result`, a weak reference to the job
    For: telling the worker's state that a task runs, and that it has succeeded; the rest is Celery's.
    When it is missing: a task on the lean path is not acknowledged; the log has an AttributeError.

`worker.state.requests`, `reserved_requests`, `active_requests`, `successful_requests`, `total_count`,
`all_total_count`, `revoked`, its ``_data`` and `revoked_stamps`
    For: the worker's state, as ``celery inspect`` shows it.
    When it is missing: an import of the asyncio pool raises AttributeError.

`Request.on_failure`, which raises a MemoryError that it is told of, before it acknowledges the message, and takes
a WorkerLostError for the end of a process, also where its argument ``return_ok`` says that the tracer has returned
    For: a MemoryError or WorkerLostError that a task raises, which fails its task.
    When it is missing: the worker ends when a task raises MemoryError, or never acknowledges its message. A task
    with `reject_on_worker_lost` that raises WorkerLostError, as it waits for one whose process was lost, runs
    without end.

`request._does_debug`
    For: leaving the line at DEBUG that a task was accepted to Celery.
    When it is missing: a task on the lean path does not begin; the log has an AttributeError.

`Context._protected`
    For: telling the call of a task by the worker from one in its own body, as Celery does in a worker.
    When it is missing: a task that calls itself directly would not get a request of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import ref

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.app.task import Context
from celery.worker import request as request_module
from celery.worker import state
from typing_extensions import override

from tomskit.celery._internals.celery_task_lines import sends_events
from tomskit.errors import TaskExitError
from tomskit.showing import shown

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("NO_EMBED", "LeanRequest", "WorkerRequest", "is_revoked", "new_context", "reserve")

_state: Final[Any] = state
_request: Final[Any] = request_module

NO_EMBED: Final[Mapping[str, None]] = {
    "callbacks": None,
    "errbacks": None,
    "chain": None,
    "chord": None,
}
"""What a message embeds that is part of no workflow."""


_requests: Final[dict[str, Any]] = _state.requests
_reserve: Final[Callable[[object], None]] = _state.reserved_requests.add
_activate: Final[Callable[[object], None]] = _state.active_requests.add
_unreserve: Final[Callable[[object], None]] = _state.reserved_requests.discard
_deactivate: Final[Callable[[object], None]] = _state.active_requests.discard
_add_successful: Final[Callable[[str], None]] = _state.successful_requests.add
_total: Final[Counter[str]] = _state.total_count
_total_of_all: Final[list[int]] = _state.all_total_count
_revoked: Final[Mapping[str, object]] = _state.revoked._data
_revoked_stamps: Final[Mapping[str, object]] = _state.revoked_stamps

if TYPE_CHECKING:

    class _Request:
        """``celery.worker.request.Request``."""

        id: str
        name: str
        time_limits: tuple[float | None, float | None]
        _apply_result: Callable[[], object] | None

        # Properties in Celery.
        ignore_result: bool
        task: Any
        request_dict: dict[str, Any]

        @property
        def args(self) -> list[Any]: ...
        @property
        def kwargs(self) -> dict[str, Any]: ...
        @property
        def eventer(self) -> Any: ...

        _eventer: Any

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

        def on_failure(
            self, exc_info: Any, send_failed_event: bool = ..., return_ok: bool = ...
        ) -> object: ...
        def on_timeout(self, soft: bool, timeout: float) -> object: ...

else:
    _Request = request_module.Request


def is_revoked(task_id: str) -> bool:
    """Whether a task, or any task by a stamp, was revoked."""
    return task_id in _revoked or bool(_revoked_stamps)


class WorkerRequest(_Request):
    """Celery's request, for tasks that may raise MemoryError or WorkerLostError.

    Celery's own raises the first again in the worker before it has acknowledged the message. Under prefork and solo
    the worker ends, under the other pools it keeps the message; a task with acks_late runs again, without end. The
    second it takes for the end of the task's process, although the task has ended and its result is stored.
    """

    __slots__ = ()

    @override
    def on_failure(
        self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False
    ) -> object:
        # Billiard keeps it in an exception that shows its traceback.
        error: BaseException | None = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, MemoryError) or (return_ok and isinstance(error, WorkerLostError)):
            exc_info = _info_without(error)
        return super().on_failure(exc_info, send_failed_event, return_ok)


def _info_without(error: BaseException) -> ExceptionInfo:
    try:
        raise TaskExitError(f"The task raised {shown(error)}")  # noqa: TRY301 (Celery wants a traceback)
    except TaskExitError:
        return ExceptionInfo()


_LATER: Final = frozenset(
    [
        "_body",
        "_utc",
        "_decoded",
        "_content_type",
        "_content_encoding",
        "_Request__payload",
        "_type",
        "_root_id",
        "_parent_id",
        "_argsrepr",
        "_kwargsrepr",
        "_eta",
        "_expires",
        "_delivery_info",
        "_request_dict",
        "request_dict",
    ]
)
"""The attributes that a request sets when one of them is first asked for."""


class _Pool(Protocol):
    def apply_lean(self, request: LeanRequest, /) -> object: ...


class LeanRequest(WorkerRequest):
    """The request of a message with nothing special about it, whose arguments are decoded already.

    Args:
        message: The message.
        on_ack: Acknowledges it.
        on_reject: Rejects it.
        app: The app.
        hostname: The worker's name.
        eventer: Sends the events of tasks.
        task: The task.
        connection_errors: What the broker's connection raises.
        payload: The args, the kwargs and what the message embeds.
    """

    # Three of these are asked for many times, and what is not in `_LATER` is set when the request is made.
    __slots__ = ("arguments", "headers", "ignore_result", "request_dict", "task")

    def __init__(
        self,
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
        # Celery's sets the same, for a message with neither ETA, expiry, shadow nor stamps.
        request: Any = self
        request._message = message
        headers: dict[str, Any] = message.headers
        self.headers: dict[str, Any] = headers
        self.arguments: tuple[list[Any], dict[str, Any], Mapping[str, Any]] = payload
        request._args, request._kwargs, _ = payload
        request._app = app
        request.id = headers["id"]
        request.name = headers["task"]
        limits = headers.get("timelimit")
        if limits:
            request.time_limits = limits
        request._on_ack = on_ack
        request._on_reject = on_reject
        request._hostname = hostname
        request._eventer = eventer
        request._connection_errors = connection_errors
        request.task = request._task = task
        ignored = headers.get("ignore_result")
        ignored = task.ignore_result if ignored is None else ignored
        request.ignore_result = request._ignore_result = ignored

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            # Only asked for what is not set, which nothing needs of most requests.
            if name in _LATER:
                self.complete()
            return object.__getattribute__(self, name)

    def complete(self) -> None:
        """Set what is in `_LATER`."""
        request: Any = self
        message = request._message
        headers: dict[str, Any] = message.headers.copy()
        request._body = message.body
        request._utc = True
        request._decoded = False
        request._content_type = message.content_type
        request._content_encoding = message.content_encoding
        request._Request__payload = self.arguments
        request._type = self.name
        request._root_id = headers.get("root_id")
        request._parent_id = headers.get("parent_id")
        request._argsrepr = headers.get("argsrepr", "")
        request._kwargsrepr = headers.get("kwargsrepr", "")
        request._eta = request._expires = None
        info: dict[str, Any] = message.delivery_info or {}
        properties: dict[str, Any] = message.properties or {}
        delivery_info = {
            "exchange": info.get("exchange"),
            "routing_key": info.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": info.get("redelivered", False),
        }
        request._delivery_info = delivery_info
        headers["properties"] = properties
        headers["reply_to"] = properties.get("reply_to")
        headers["correlation_id"] = properties.get("correlation_id")
        headers["hostname"] = self.hostname
        headers["delivery_info"] = delivery_info
        headers["args"], headers["kwargs"] = self.args, self.kwargs
        request.request_dict = request._request_dict = headers

    @override
    def revoked(self) -> bool:
        # It has no expiry, and no stamps: what Celery looks at besides.
        return (self._already_revoked or is_revoked(self.id)) and super().revoked()

    @override
    def on_accepted(self, pid: int, time_accepted: float) -> object:
        if _request._does_debug:
            return super().on_accepted(pid, time_accepted)
        self.worker_pid: int | None = pid
        self.time_start: float | None = time.time() - (time.monotonic() - time_accepted)
        # `state.task_accepted`, without the dictionary that it makes.
        _requests[self.id] = self
        _activate(self)
        _total[self.name] += 1
        _total_of_all[0] += 1
        if not self.task.acks_late:
            self.acknowledge()
        if sends_events(self._eventer):
            self.send_event("task-started")
        if self._terminate_on_ack is not None:
            self.terminate(*self._terminate_on_ack)
        return None

    @override
    def on_success(self, failed__retval__runtime: Any, **kwargs: object) -> object:
        failed, retval, runtime = failed__retval__runtime
        if failed:
            return super().on_success(failed__retval__runtime, **kwargs)
        late = self.task.acks_late
        if late:
            # Celery looks for others nowhere among the successful.
            _add_successful(self.id)
        # `state.task_ready`, for one that was never scheduled.
        _requests.pop(self.id, None)
        _deactivate(self)
        _unreserve(self)
        if late:
            self.acknowledge()
        # None was not made to be shown: nobody wanted events when the task ended.
        if retval is not None and sends_events(self._eventer):
            self.send_event("task-succeeded", result=retval, runtime=runtime)
        return None

    def execute_using_pool(self, pool: _Pool, **_: object) -> object:
        """Have the pool run the task, unless it is revoked by then; called by Celery's worker."""
        job = pool.apply_lean(self)
        # Weak, as Celery calls it.
        self._apply_result = ref(job)
        return job


def reserve(request: LeanRequest) -> None:
    """Note that the worker has a request; `state.task_reserved` for one that was never scheduled."""
    _requests[request.id] = request
    _reserve(request)


def new_context(request: LeanRequest) -> Context:
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
