"""The lean path: what Celery does for every task, done only where something asks for it.

Celery's machinery around a task that returns a value takes several times as long as everything else
that a worker does for it. It is for cases that most messages are none of: schedules, limits of rate,
workflows, stamps, hooks. So messages without any of them are handled by a request
and a job of ours, and whatever turns out to be special later goes on with Celery's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from celery import signals

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery_lean import (
    NO_EMBED,
    celerys_strategy,
    has_backend_of_its_own,
    has_hooks,
    is_revoked,
    is_run_by_celery,
    reserve,
    uses_celerys_request,
    uses_default_loader_hooks,
)
from tomskit.celery._internals.celery_task_lines import (
    log_received,
    logs_received,
    send_received,
    sends_events,
)
from tomskit.celery.asyncio_pool.lean_request import LeanRequest
from tomskit.celery.asyncio_pool.pool import AsyncioPool
from tomskit.celery.fast_redis.guarded import is_object

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("strategy",)

Handler = Callable[..., object]

_JSON: Final = frozenset({"application/json", "application/x-tomskit-orjson"})
_SERIALIZERS: Final = frozenset({"json", "orjson"})


def strategy(task: Any, app: Celery, consumer: Any) -> Handler:
    """What handles the messages of an async task; Celery's `Task.Strategy`.

    Args:
        task: The task.
        app: Its app.
        consumer: The worker's consumer.
    """
    celerys = celerys_strategy(task, app, consumer)
    pool = consumer.pool
    if not isinstance(pool, AsyncioPool) or not _may_be_lean(task, app):
        return celerys
    return _Strategy(task, pool, consumer, celerys).handle


def _may_be_lean(task: Any, app: Celery) -> bool:
    conf = app.conf
    return (
        isinstance(app, AsyncApp)
        and app.runtime_host.uses_async_runtime
        and uses_celerys_request(task)
        and uses_default_loader_hooks(app)
        and not has_hooks(task)
        and not has_backend_of_its_own(task)
        and not getattr(task, "_tomskit_once", False)
        and app.config.CELERY_WORKER_LEAN_PATH
        and not conf.result_extended
        and not conf.result_compression
        and not conf.worker_deduplicate_successful_tasks
        and conf.result_serializer in _SERIALIZERS
    )


class _Strategy:
    def __init__(self, task: Any, pool: AsyncioPool, consumer: Any, celerys: Handler) -> None:
        self._task = task
        self._body: object = task.__class__.run
        self._pool = pool
        self._consumer = consumer
        self._celerys = celerys
        self._known: tuple[object, object] | None = None
        self._is_run_by_celery = False
        self._logs = logs_received()

    def handle(
        self,
        message: Any,
        body: object,
        ack: Callable[..., object],
        reject: Callable[..., object],
        callbacks: Sequence[Callable[[object], object]],
        **options: object,
    ) -> object:
        """Take a message; called by Celery's consumer."""
        payload = None
        if body is None and _is_ordinary(message.headers) and self._is_ordinary_now(message):
            payload = _decoded(message)
        if payload is None:
            return self._celerys(message, body, ack, reject, callbacks, **options)
        consumer = self._consumer
        request = LeanRequest(
            message=message,
            on_ack=ack,
            on_reject=reject,
            app=consumer.app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=self._task,
            connection_errors=consumer.connection_errors,
            payload=payload,
        )
        if self._logs:
            log_received(request)
        if signals.task_received.receivers:
            signals.task_received.send(sender=consumer, request=request)
        if self._task.send_events and sends_events(consumer.event_dispatcher):
            send_received(request)
        reserve(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)
        return None

    def _is_ordinary_now(self, message: Any) -> bool:
        """Whether no limit of its rate, revocation or replaced function asks for more than to run it."""
        return (
            not self._consumer.task_buckets[self._task.name]
            and not is_revoked(message.headers["id"])
            and self._pool.is_lean_for(self._task)
            and self._is_untouched()
        )

    def _is_untouched(self) -> bool:
        # Libraries for tracing replace these, before the first message or with it.
        task = self._task
        own: dict[str, object] = task.__dict__
        known: tuple[object, object] = task.__trace__, own.get("run")
        if self._known != known:
            self._known = known
            self._is_run_by_celery = is_run_by_celery(task, self._body)
        return self._is_run_by_celery


def _is_ordinary(headers: Any) -> bool:
    if not is_object(headers):
        return False
    get = headers.get
    return (
        isinstance(get("id"), str)
        and isinstance(get("task"), str)
        and get("eta") is None
        and get("expires") is None
        and get("shadow") is None
        and not get("stamped_headers")
        and not get("replaced_task_nesting")
        and isinstance(get("retries", 0), int)
        and _are_limits(get("timelimit"))
    )


def _are_limits(limits: object) -> bool:
    return limits is None or (
        _is_list(limits)
        and len(limits) == len(("hard", "soft"))
        and all(limit is None or type(limit) in {int, float} for limit in limits)
    )


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _decoded(message: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]] | None:
    """The arguments of a message, if nothing follows them."""
    if message.content_type not in _JSON:
        return None
    payload: object = message.payload
    if not _is_list(payload) or len(payload) != len(("args", "kwargs", "embed")):
        return None
    args: object = payload[0]
    kwargs: object = payload[1]
    embed: object = payload[2]
    if _is_list(args) and is_object(kwargs) and is_object(embed) and embed == NO_EMBED:
        return args, kwargs, embed
    return None
