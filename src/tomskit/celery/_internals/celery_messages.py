"""Celery: how the message of a task comes about.

`Celery.send_task`, the order of its parameters
    For: an id that stays the same however often publishing is tried: it is the sixth one.
    When it is missing: a call that passes the id by its position raises TypeError, or is retried
    under another id.

The functions on the way of a call without options: `PUBLISH_PATH` and `TASK_METHODS`
    For: noticing that a tracing library has replaced one of them, which then is called for each
    message.
    When it is missing: publishing such a call from an event loop raises AttributeError. Where Celery
    calls another function on the way, what replaces that one is called for the first messages only.

`AMQP.create_task_message` and `send_task_message`
    For: noticing that one of these functions, which Celery makes for each app, was replaced.
    When it is missing: publishing from an event loop raises AttributeError.

`AMQP.router`, its ``routes``
    For: using templates of messages only where all calls of a task have the same route.
    When it is missing: publishing from an event loop raises AttributeError.

`Task._get_exec_options`
    For: using templates only for tasks without an expiry of their own.
    When it is missing: publishing from an event loop raises AttributeError.

`AMQP.argsrepr_maxsize` and `kwargsrepr_maxsize`
    For: the texts of the arguments that events and logs show.
    When it is missing: publishing from an event loop raises AttributeError.

`Signal.receivers`
    For: Celery's full publish path wherever a receiver wants to see or change messages.
    When it is missing: publishing from an event loop raises AttributeError.

`EventDispatcher.mutex`
    For: sending ``task-sent`` events from greenlets. Celery's lock would stop the whole thread.
    When it is missing: with ``task_send_sent_event`` two tasks that are sent at once in an event loop
    may stop it.

`AMQP.Connection`
    For: connections of a worker whose channels are ours.
    When it is missing: the worker talks to Redis as plain Celery does.

`AMQP._producer_pool`, which the app forgets in a process that was forked
    For: producers of ours in the pool from which Celery takes them.
    When it is missing: publishing raises AttributeError. Where Celery keeps the pool elsewhere, a process
    that was forked writes to the connections of its parent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.app.routes import Router
from kombu import Producer
from typing_extensions import override

if TYPE_CHECKING:
    from kombu import Connection
    from kombu.pools import ProducerPool

__all__ = (
    "POSITION_OF_TASK_ID",
    "PUBLISH_PATH",
    "TASK_METHODS",
    "Messages",
    "TaskMessages",
    "call_options_of",
    "connect_as_celery",
    "connect_with",
    "lock_free_dispatcher",
    "messages_of",
    "routes_by_default",
)

POSITION_OF_TASK_ID: Final = 5
"""Among the arguments of `Celery.send_task`."""

TASK_METHODS: Final = ("delay", "apply_async", "shadow_name", "AsyncResult")
"""Methods of a task on the way of a call; subclasses may override them."""

PUBLISH_PATH: Final[tuple[tuple[type, str], ...]] = (
    (Task, "apply_async"),
    (Task, "shadow_name"),
    (Celery, "send_task"),
    (AMQP, "as_task_v2"),
    (Producer, "publish"),
)
"""Other functions on that way."""


class TaskMessages(Protocol):
    """``Celery.amqp``, which makes the messages of an app.

    Attributes:
        argsrepr_maxsize: The length to which the text of the arguments is cut.
        kwargsrepr_maxsize: As well, of the keyword arguments.
    """

    argsrepr_maxsize: int
    kwargsrepr_maxsize: int
    create_task_message: Callable[..., object]
    send_task_message: Callable[..., object]


class Messages(AMQP):
    """``Celery.amqp``, with a pool of producers of a class of ours."""

    app: Any
    _producer_pool: ProducerPool | None

    def new_producer_pool(self) -> ProducerPool:
        """The pool from which producers are taken, for this process."""
        raise NotImplementedError

    @property
    @override
    def producer_pool(self) -> ProducerPool:
        pool = self._producer_pool
        if pool is None:
            pool = self._producer_pool = self.new_producer_pool()
        return pool

    @property
    @override
    def publisher_pool(self) -> ProducerPool:
        return self.producer_pool


def messages_of(app: Any) -> TaskMessages:
    """What makes the messages of an app."""
    amqp: TaskMessages = app.amqp
    return amqp


def routes_by_default(app: Any) -> bool:
    """Whether all calls of a task go to the same queue."""
    router = app.amqp.router
    return _is_celerys(router) and not router.routes


def _is_celerys(router: object) -> bool:
    return type(router) is Router


def call_options_of(task: Any) -> Mapping[str, object]:
    """The options of a task that all its calls have."""
    options: Mapping[str, object] = task._get_exec_options()
    return options


def lock_free_dispatcher(app: Any) -> object:
    """What sends the events that Celery sends with messages.

    Celery's own keeps a lock meanwhile. Of two greenlets of a thread the second one would wait for
    it, and the first one could never go on.
    """
    dispatcher: Any = app.events.Dispatcher(enabled=False)
    dispatcher.mutex = nullcontext()
    return dispatcher


def connect_with(app: Any, connection: type[Connection]) -> None:
    """Let an app make its connections of this class."""
    app.amqp.Connection = connection


def connect_as_celery(app: Any) -> None:
    """Undo `connect_with`."""
    amqp: object = app.amqp
    vars(amqp).pop("Connection", None)
