"""The lean path: what Celery does for every task, done only where something asks for it.

Celery's machinery around a task that returns a value takes several times as long as everything else
that a worker does for it. It is for cases that most messages are none of: schedules, limits of rate,
workflows, stamps, hooks. So messages without any of them are handled by a request
and a job of ours, and whatever turns out to be special later goes on with Celery's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from celery import signals

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery_lean import (
    celerys_strategy,
    has_backend_of_its_own,
    has_hooks,
    is_run_by_celery,
    uses_default_loader_hooks,
)
from tomskit.celery._internals.celery_request import (
    NO_EMBED,
    LeanRequest,
    is_revoked,
    reserve,
)
from tomskit.celery._internals.celery_task_lines import (
    RECEIVED,
    logs_received,
    received,
    send_received,
    sends_events,
    write_received,
)
from tomskit.celery._running.repeated_lines import RepeatedLine
from tomskit.celery._tasks.body import runs_lean
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery.asyncio_pool.pool import AsyncioPool
from tomskit.celery.fast_redis.calls import Arguments, ordinary_call

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("LeanStrategy", "strategy")

Handler = Callable[..., object]

_received: Final = RepeatedLine(RECEIVED, write_received)
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
    return LeanStrategy(task, pool, consumer, celerys)


def _may_be_lean(task: Any, app: Celery) -> bool:
    conf = app.conf
    return (
        isinstance(app, AsyncApp)
        and app.runtime_host.uses_async_runtime
        and task.Request == AsyncTask.Request
        and uses_default_loader_hooks(app)
        and not has_hooks(task)
        and runs_lean(task)
        and not has_backend_of_its_own(task)
        and app.config.CELERY_WORKER_LEAN_PATH
        and not conf.result_extended
        and not conf.result_compression
        and not conf.worker_deduplicate_successful_tasks
        and conf.result_serializer in _SERIALIZERS
    )


class LeanStrategy:
    """Handles the messages of a task; made by `strategy`."""

    def __init__(self, task: Any, pool: AsyncioPool, consumer: Any, celerys: Handler) -> None:
        self._task = task
        self._body: object = task.__class__.run
        self._pool = pool
        self._consumer = consumer
        self._celerys = celerys
        self._known: tuple[object, object] | None = None
        self._is_run_by_celery = False
        self._logs = logs_received()

    def __call__(
        self,
        message: Any,
        body: object,
        ack: Callable[..., object],
        reject: Callable[..., object],
        callbacks: Iterable[Callable[[object], object]],
        **options: object,
    ) -> object:
        """Take a message; called by Celery's consumer."""
        # Of the first protocol the worker hands over the body.
        call = ordinary_call(message) if body is None else None
        if call is None or not self.take(message, call, ack, reject, callbacks):
            return self._celerys(message, body, ack, reject, callbacks, **options)
        return None

    def take(
        self,
        message: Any,
        call: Arguments,
        ack: Callable[..., object],
        reject: Callable[..., object],
        callbacks: Iterable[Callable[[object], object]],
    ) -> bool:
        """Take the message of an ordinary call, unless there is more to do than to run it.

        Args:
            message: The message.
            call: The arguments in it.
            ack: Acknowledges it.
            reject: Rejects it.
            callbacks: Called with the request.

        Returns:
            Whether it was taken; otherwise Celery handles it.
        """
        if not self._is_ordinary_now(message):
            return False
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
            payload=(*call, NO_EMBED),
        )
        if self._logs:
            _received.log(received(request), request.id)
        if signals.task_received.receivers:
            signals.task_received.send(sender=consumer, request=request)
        if self._task.send_events and sends_events(consumer.event_dispatcher):
            send_received(request)
        reserve(request)
        for callback in callbacks:
            callback(request)
        consumer.on_task_request(request)
        return True

    def _is_ordinary_now(self, message: Any) -> bool:
        """Whether no limit of its rate, revocation or replaced function asks for more than to run it."""
        task = self._task
        own: dict[str, object] = task.__dict__
        # Libraries for tracing replace these, before the first message or with it.
        known: tuple[object, object] = task.__trace__, own.get("run")
        if self._known != known:
            self._known = known
            self._is_run_by_celery = is_run_by_celery(task, self._body)
        return (
            self._is_run_by_celery
            and not self._consumer.task_buckets[task.name]
            and not is_revoked(message.headers["id"])
            and (self._pool.stores_in_loop or self._is_ignored(message.headers))
        )

    def _is_ignored(self, headers: Any) -> bool:
        # A call may say something else than its task.
        ignored: bool | None = headers.get("ignore_result")
        return bool(self._task.ignore_result if ignored is None else ignored)
