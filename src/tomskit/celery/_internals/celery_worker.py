"""Celery: the worker, its pool and its consumer.

`WorkController`: `pool`, `pool_cls`, `pool_start_method`, `optimization`, `autoscale`,
`max_tasks_per_child`, `max_memory_per_child`, `consumer_cls`, `concurrency`, `options`, `steps` and
`use_eventloop`
    For: preparing a worker for its pool before its parts are made, and refusing pools and transports
    that cannot run coroutines.
    When it is missing: the worker raises AttributeError when it starts.

`WorkController._conninfo`, its ``requires_hub``
    For: an event loop of the worker that polls through asyncio's: Celery makes it of this class.
    When it is missing: a worker with the asyncio pool refuses to start.

`WorkController.wait_for_soft_shutdown`
    For: letting tasks run in the time that a soft shutdown gives them, where Celery sleeps, and
    touching the health file in it.
    When it is missing: a worker with the asyncio pool or a health file raises AttributeError when it
    starts.

`WorkController.exitcode`
    For: ending the process of a worker that has stopped while threads of tasks still run.
    When it is missing: such a process does not end.

`state.should_stop` and `state.should_terminate`
    For: ending a worker whose processes cannot start, a second SIGTERM that ends it at once, and a cold
    shutdown of the solo pool.
    When it is missing: a worker with the asyncio pool raises AttributeError when it ends.

`install_worker_term_handler` and `install_worker_int_handler`, whose handlers set `state.should_stop`
    For: a warm shutdown in the worker's turn. What a handler raises is raised in the middle of any other code,
    which may swallow it.
    When it is missing: where Celery raises an error again, such a worker may not end on SIGTERM.

`Consumer.ensure_connected`, which has ``ensure_connection`` of a connection call a function at each failure, and
`broker_connection_retry_attempt`, which that counts up
    For: one line in the log when a broker cannot be reached, and one a minute.
    When it is missing: the log has a line for each try.

`state.maybe_shutdown`
    For: ending a worker that waits for its broker.
    When it is missing: an import of tomskit.celery raises AttributeError.

`state.active_requests` and `reserved_requests`, the ``message.delivery_tag`` of each
    For: knowing which messages still have a running task after the connection was lost.
    When it is missing: the worker cannot connect again: AttributeError in the log.

`BasePool._get_info`
    For: the figures of the pool in ``celery inspect stats``.
    When it is missing: ``inspect stats`` answers without them.

`BasePool.on_apply`, its arguments, and the hooks `on_start`, `on_stop` and `on_terminate`
    For: running tasks. Celery passes the callbacks by name.
    When it is missing: no task runs; the log has a TypeError for each.

`Request.on_accepted`, a bound method that is passed as ``accept_callback``
    For: the request of a task that waits for a slot: whether it was revoked meanwhile.
    When it is missing: a task that is revoked while it waits for a slot runs nevertheless.

`Request._apply_result`, a weak reference to what `on_apply` returns, with a method ``terminate``
    For: ``revoke(terminate=True)`` and cold shutdowns.
    When it is missing: such a task is not ended.

The arguments of the tracer, `fast_trace_task`: six, the first of which are name, id and request
    For: the name of a task, and its limits, which a call may set in the request's ``timelimit``.
    When it is missing: no task runs; the log has an IndexError or a KeyError for each.

`Consumer.loop`, which Celery sets to `loops.asynloop`
    For: connecting in a thread, and consuming in the worker's own.
    When it is missing: while the broker is away, no coroutine runs. Where `asynloop` is missing, the
    worker cannot consume: AttributeError in the log.

`Consumer.connection_for_read`, its argument ``heartbeat``, and `Consumer.on_ready`
    For: waiting for a broker that can be reached and not be written to.
    When it is missing: a worker whose broker is READONLY or the like connects again and again.

`Consumer.strategies`, `on_task_message` and `_maximum_prefetch_restored`
    For: the lean path of an ordinary call. Where acknowledgements are to raise the prefetch count again, Celery's
    handler takes it.
    When it is missing: the first message is rejected; the log has an AttributeError.

`Consumer.strategies`, and `Task.start_strategy`, which makes what is in it and takes the time limits of that moment
    For: limits that remote control changes, under prefork.
    When it is missing: ``celery control time_limit`` has no effect there, as in plain Celery; the log has an error.

`Consumer.timer`, its ``call_after`` and ``cancel`` of what that returns
    For: knowing a connection that lasts from one that is lost again at once.
    When it is missing: the worker raises AttributeError when its broker is back.

`Consumer.connection_errors`, after which it connects again
    For: waiting for queues that RabbitMQ still keeps for a connection that was lost.
    When it is missing: the worker raises AttributeError when it starts. Where Celery looks elsewhere, such a worker
    ends.

`Consumer.on_connection_error_after_connected`
    For: giving back unacknowledged messages of a lost connection on the next one.
    When it is missing: Redis delivers them after the visibility timeout.

`Consumer.controller`, the worker of the consumer that the signal ``worker_ready`` sends
    For: warning of more database connections than a server admits, times processes.
    When it is missing: AttributeError in the log when the worker is ready, and no such warning.

`Control.mailbox`, its ``node_cls``
    For: dropping commands of remote control that cannot be read.
    When it is missing: the worker raises AttributeError when it starts.

`Events.dispatcher_cls`, of which Celery makes `Events.Dispatcher` once, and the argument ``retry`` with
which a worker sends its heartbeats by that
    For: trying to send each heartbeat once.
    When it is missing: a worker whose broker is silent tries to send one for ever, and does not end on
    SIGTERM.

`Consumer.cancel_active_requests`, which calls the pool's `terminate_job` for each task and then says that
it was cancelled
    For: a cold shutdown of the solo pool, which ends the running task, and of the threads pool, which cannot.
    When it is missing: such a task of solo is a FAILURE, NotImplementedError, and does not run again, and a
    worker with threads ends with that error.

`Consumer.create_task_handler`, its argument ``promise``
    For: acknowledging without three promises for each message.
    When it is missing: the worker cannot consume: TypeError in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from celery.concurrency.base import BasePool
from celery.concurrency.thread import TaskPool as ThreadsPool
from celery.worker import loops, state
from kombu.utils.imports import symbol_by_name

if TYPE_CHECKING:
    import kombu
    from celery import Celery
    from celery.events import EventDispatcher
    from celery.worker import consumer as celery_consumer
    from kombu.asynchronous import Hub
    from kombu.pidbox import Node
    from typing_extensions import override

__all__ = (
    "Consumer",
    "ReadyConsumer",
    "Revocable",
    "TaskPool",
    "TimerEntry",
    "Worker",
    "WorkerPool",
    "consumer_class_of",
    "make_hub_of",
    "obey_commands_by",
    "quit_requested",
    "quit_worker",
    "renew_strategy",
    "request_of",
    "restores_prefetch",
    "run_consumer_loop",
    "send_events_as_celery",
    "send_events_by",
    "sets_limits",
    "stop_if_requested",
    "stop_requested",
    "stop_worker",
    "tags_of_running_tasks",
    "tags_of_tasks_that_wait",
)


class WorkerPool(Protocol):
    """A class of worker pools."""

    __module__: str
    is_green: bool


class _ConnectionInfo(Protocol):
    requires_hub: type[Hub] | None


class TimerEntry(Protocol):
    """What is to be called later."""

    def cancel(self) -> None: ...


class _Timer(Protocol):
    def call_after(self, secs: float, fun: Callable[[], object]) -> TimerEntry: ...
    def call_repeatedly(self, secs: float, fun: Callable[[], object]) -> object: ...


class Worker(Protocol):
    """``celery.worker.WorkController``, as boot steps see it."""

    app: Celery
    pool: object
    pool_start_method: str
    optimization: str | None
    autoscale: object
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    pool_cls: type[WorkerPool]
    consumer_cls: type[celery_consumer.Consumer] | str
    concurrency: int
    hub: Hub | None
    options: dict[str, object]
    steps: list[object]
    hostname: str
    timer: _Timer
    soft_time_limit: float | None
    time_limit: float | None
    use_eventloop: bool
    wait_for_soft_shutdown: Callable[[], object]
    exitcode: int | None
    _conninfo: _ConnectionInfo


class ReadyConsumer(Protocol):
    """``celery.worker.consumer.Consumer``, as the signal worker_ready sends it."""

    app: Celery
    controller: Worker


class Revocable(Protocol):
    """``celery.worker.request.Request``, as far as a pool needs it."""

    def revoked(self) -> bool:
        """Whether it was revoked or has expired. If so, it acknowledges and announces that."""
        ...


class _Flags(Protocol):
    """Celery's flags: an exit code, 0 among them, or True, asks for it."""

    should_stop: int | None
    should_terminate: int | None


_untyped_state: Any = state
_flags: Final[_Flags] = _untyped_state

if TYPE_CHECKING:

    class Consumer(celery_consumer.Consumer):
        """``celery.worker.consumer.Consumer``; at run time any class that the worker is to use."""

        task_consumer: kombu.Consumer | None
        pool: object
        strategies: dict[str, Callable[..., object]]
        on_task_message: set[Callable[[object], object]]
        broker_connection_retry_attempt: int

        @override
        def ensure_connected(self, conn: kombu.Connection) -> kombu.Connection: ...
        @override
        def connection_for_read(self, heartbeat: float | None = None) -> kombu.Connection: ...
        @override
        def cancel_active_requests(self) -> None: ...
        @override
        def create_task_handler(
            self, promise: Callable[..., object] = ...
        ) -> Callable[..., object]: ...

    class TaskPool(BasePool):
        """``celery.concurrency.base.BasePool``."""

        def _get_info(self) -> dict[str, object]: ...

else:
    Consumer = object
    TaskPool = BasePool


def renew_strategy(consumer: Any, name: object) -> None:
    """Let a worker take the time limits that a task has now for the messages that it gets from now on."""
    task = consumer.app.tasks.get(name)
    if task is not None and name in consumer.strategies:
        consumer.strategies[name] = task.start_strategy(consumer.app, consumer)


def restores_prefetch(consumer: Any) -> bool:
    """Whether each acknowledgement is to raise the prefetch count again, after a lost connection."""
    return not consumer._maximum_prefetch_restored


def make_hub_of(hub_class: type[Hub], worker: Worker) -> None:
    """Let a worker make its event loop of this class."""
    worker._conninfo.requires_hub = hub_class


def consumer_class_of(worker: Worker) -> type[celery_consumer.Consumer]:
    """The class of the worker's consumer, which may be given by its name."""
    by_name: Any = symbol_by_name
    found: type[celery_consumer.Consumer] = by_name(worker.consumer_cls)
    return found


def obey_commands_by(node_class: type[Node], app: Any) -> None:
    """Let a worker of an app obey remote control by a node of this class."""
    app.control.mailbox.node_cls = node_class


def send_events_by(dispatcher_class: type[EventDispatcher], app: Any) -> None:
    """Let a worker of an app send its events by a dispatcher of this class."""
    send_events_as_celery(app)
    app.events.dispatcher_cls = dispatcher_class


def send_events_as_celery(app: Any) -> None:
    """Undo `send_events_by`."""
    events: object = app.events
    kept = vars(events)
    for name in ("dispatcher_cls", "Dispatcher"):
        kept.pop(name, None)


def request_of(accept_callback: object) -> Revocable | None:
    """The request of a task, by the callback that Celery gives to the pool."""
    request: Revocable | None = getattr(accept_callback, "__self__", None)
    return request


def sets_limits(request: Any) -> bool:
    """Whether a call has set time limits, by the request that Celery gives to the tracer."""
    return any(request.get("timelimit") or ())


def tags_of_running_tasks() -> set[str]:
    """The delivery tags of the messages whose tasks run."""
    return {request.message.delivery_tag for request in state.active_requests}


def tags_of_tasks_that_wait(pool: object) -> set[str]:
    """The delivery tags of tasks that wait in a pool of threads, whose queue nothing empties."""
    if not isinstance(pool, ThreadsPool):
        return set()
    return {request.message.delivery_tag for request in state.reserved_requests}


def run_consumer_loop(*args: Any) -> None:
    """Consume until the connection is lost or the worker is to stop; as Celery calls it."""
    loops.asynloop(*args)


def stop_worker(exit_code: int) -> None:
    """Let the worker stop, warm. Its loop looks at this in each turn."""
    _flags.should_stop = exit_code


def stop_requested() -> bool:
    """Whether the worker is to stop, warm."""
    return _flags.should_stop is not None and _flags.should_stop is not False


stop_if_requested: Final[Callable[[], None]] = _untyped_state.maybe_shutdown
"""Raises what ends the worker, if it is to stop; called where the worker waits."""


def quit_worker(exit_code: int) -> None:
    """Let the worker stop and cancel what runs."""
    _flags.should_terminate = exit_code


def quit_requested() -> bool:
    """Whether the worker is to stop and to cancel what runs."""
    return _flags.should_terminate is not None and _flags.should_terminate is not False
