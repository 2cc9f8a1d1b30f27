"""Places: where plain code runs that may wait without blocking its event loop.

Celery is synchronous. Its code runs in a greenlet of a task, in a greenlet that publishes messages
for an event loop, or, in a worker of the asyncio pool, between two turns of the loop. `here` tells
which. In any other thread, and in a coroutine that no greenlet runs, it is None: waiting blocks there.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Never, Protocol, TypeAlias, TypeVar

from celery.utils import uuid
from kombu import Producer
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery_messages import POSITION_OF_TASK_ID
from tomskit.celery._running.greenlets import await_here, greenlet_here, wait_to_the_end
from tomskit.resources import Resources

if TYPE_CHECKING:
    from celery.app.task import Context

__all__ = (
    "GreenletPlace",
    "Identity",
    "LeanCall",
    "Place",
    "here",
    "place_of_task",
    "publishes_patiently",
    "set_outer_place",
)

R = TypeVar("R")


Identity: TypeAlias = tuple[str, str | None, int]
"""The name of a task, the id, and how often it has been retried."""


class LeanCall(Protocol):
    """The call of a task without Celery's tracer around it, and so without a request on its stacks."""

    @property
    def identity(self) -> Identity:
        """Which one it is."""
        ...

    @property
    def is_result_sent(self) -> bool:
        """Whether the result goes to the result backend."""
        ...

    @property
    def request(self) -> Context | None:
        """What ``self.request`` is; None as long as nobody has asked for it."""
        ...

    def run(self, coro: Coroutine[object, Never, R], resources: Resources) -> R:
        """As `Place.run`."""
        ...

    def fails(self) -> None:
        """As `Place.fails`."""


class Place(ABC):
    """Where plain code runs that may wait without blocking its event loop."""

    __slots__ = ()

    patient: ClassVar[bool] = True
    """Whether publishing retries until the broker returns, unless the call limits the retries."""

    def take_outcome(self) -> Callable[[], object] | None:
        """Take what returns or raises the outcome of the body that is to run here next; None if it has not run."""
        return None

    @property
    def lean_body(self) -> Identity | None:
        """The task whose body runs here without Celery's tracer around it."""
        return None

    @property
    def has_started(self) -> bool:
        """Whether it was stored already that the task here has started."""
        return False

    @property
    def begun(self) -> float | None:
        """The time at which the task here began; None where no task runs."""
        return None

    waits_for_stores: ClassVar[bool] = True
    """Whether storing a task's state is waited for. The worker itself does not wait: a store that is
    away must not keep it from other tasks."""

    @abstractmethod
    def wait(self, awaitable: Awaitable[R]) -> R:
        """Wait for `awaitable`; the event loop runs meanwhile."""

    @abstractmethod
    def wait_to_the_end(self, future: asyncio.Future[R]) -> R:
        """Wait for what cannot be cancelled, such as a call in a thread."""

    def run(self, coro: Coroutine[object, Never, R], resources: Resources) -> R:
        """Run a coroutine for plain code, in the scopes of `resources`."""
        return self.wait(resources.run(coro))

    def check(self) -> None:  # noqa: B027 (nothing to raise, but for the place of a task)
        """Raise what unwinds the code that runs here, if its task was ended."""

    def fails(self) -> None:  # noqa: B027 (nothing to wait for, but where a thousand tasks may fail at once)
        """The task here is about to fail or to be retried; waits until few others do."""

    def may_store(self) -> bool:
        """Whether the code here may store a task's state; it may not once its task was ended."""
        return True

    def producer_for(self, app: AsyncApp) -> Producer | None:  # noqa: ARG002
        """What publishes messages of `app` from here; None where `publish` finds it."""
        return None

    def publish(
        self,
        app: AsyncApp,
        send_task: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> R:
        """Publish one task message from here.

        Args:
            app: Whose message it is.
            send_task: Celery's, which makes the message and publishes it.
            args: Of `send_task`.
            kwargs: Of `send_task`.
        """
        self.check()
        if len(args) <= POSITION_OF_TASK_ID:
            # The same one in all tries.
            kwargs["task_id"] = kwargs.get("task_id") or uuid()
        own_producer = kwargs.get("producer") is not None
        retry = kwargs.get("retry", app.conf.task_publish_retry) is not False
        return self.wait(
            app.async_client.send(
                partial(send_task, *args, **kwargs),
                patient=self.patient
                and retry
                and not own_producer
                and "retry_policy" not in kwargs,
                blocks=own_producer,
            )
        )


class GreenletPlace(Place):
    """A greenlet, run by `GreenletCoroutine` with this as its owner."""

    __slots__ = ()

    @override
    def wait(self, awaitable: Awaitable[R]) -> R:
        return await_here(awaitable)

    @override
    def wait_to_the_end(self, future: asyncio.Future[R]) -> R:
        return wait_to_the_end(future)


_outer: list[Callable[[], Place | None]] = []

# A forked process has a copy of the worker's loop, which nobody runs.
os.register_at_fork(after_in_child=_outer.clear)


def set_outer_place(find: Callable[[], Place | None] | None) -> None:
    """Set what finds the place of code in no greenlet: that of a worker, between turns of its loop."""
    _outer[:] = [] if find is None else [find]


def here() -> Place | None:
    """The place of the code that calls this; None where waiting blocks."""
    found = greenlet_here()
    # Mostly there is none, and `isinstance` of an abstract class takes as long as all the rest.
    if found is not None and isinstance(found.owner, Place):
        return found.owner
    return _outer[0]() if _outer else None


place_of_task: Final[ContextVar[Place | None]] = ContextVar("tomskit_place", default=None)
"""The place of the task of the asyncio pool whose code runs in a context, its children's included."""


def publishes_patiently() -> bool:
    """Whether the code that calls this publishes for a task that waits until the broker returns."""
    place = place_of_task.get()
    # A process that a task has forked is a client like any other.
    return place is not None and place.patient and bool(_outer)
