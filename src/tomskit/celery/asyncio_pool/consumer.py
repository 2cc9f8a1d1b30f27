"""LoopConsumer: the worker's consumer, connecting in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from tomskit.celery._internals.celery_worker import restores_prefetch, run_consumer_loop
from tomskit.celery.asyncio_pool.hub import LoopHub, run_into
from tomskit.celery.asyncio_pool.lean_strategy import LeanStrategy
from tomskit.celery.asyncio_pool.patient_consumer import PatientConsumer
from tomskit.celery.fast_redis.calls import Arguments
from tomskit.celery.fast_redis.channel import FastChannel
from tomskit.celery.fast_redis.parts import in_front

if TYPE_CHECKING:
    from celery.worker import consumer as celery_consumer

__all__ = ("LoopConsumer", "consumer_class")

R = TypeVar("R")


class LoopConsumer(PatientConsumer):
    """Put in front of a class of consumers, keeps them from blocking the event loop.

    Celery connects, and reconnects, in blocking calls with pauses between. Here a thread does that,
    while the worker waits and coroutines run. Only consuming, for which Celery calls `loop`, is done in
    the worker's own thread.
    """

    hub: LoopHub

    @override
    def start(self) -> None:
        thread = _ConsumerThread(super().start, self.hub)
        self._consumer_thread = thread
        thread.run()

    @override
    def promise_of(self, channel: object) -> Callable[..., object]:
        return _SettlingAtOnce if isinstance(channel, FastChannel) else super().promise_of(channel)

    def take(self, message: Any, call: Arguments) -> bool:
        """Take an ordinary call on the lean path; whether it did.

        Only from a FastChannel, where an acknowledgement is only noted and needs no promise.
        """
        strategy = self.strategies.get(message.headers["task"])
        return (
            isinstance(strategy, LeanStrategy)
            and isinstance(message.channel, FastChannel)
            and not restores_prefetch(self)
            and strategy.take(
                message,
                call,
                message.ack_log_error,
                message.reject_log_error,
                self.on_task_message,
            )
        )

    def loop(self, *args: object) -> None:
        """Consume until the connection is lost or the worker is to stop."""
        self.settle()
        self._consumer_thread.call_back(lambda: run_consumer_loop(*args))


class _SettlingAtOnce:
    """Acknowledges or rejects a message at once, in place of the promise to do so in the next turn.

    A FastChannel only notes it, and sends a command at the end of the turn. Promises, two for each
    message and a third one for the turn, would cost a waiting task a kilobyte.
    """

    __slots__ = ("_settle", "_then")

    def __init__(self, _: object, args: tuple[Callable[..., object]], **__: object) -> None:
        [self._settle] = args
        self._then: Callable[[object], object] | None = None

    def then(self, callback: Callable[[object], object], **_: object) -> None:
        """Have something called afterwards."""
        self._then = callback

    def __call__(self, *args: object) -> None:
        self._settle(*args)
        if self._then is not None:
            self._then(None)


class _ConsumerThread:
    """Runs a function in a thread that can have others called in the worker's own."""

    def __init__(self, function: Callable[[], None], hub: LoopHub) -> None:
        self._function = function
        self._hub = hub
        self._asked: Future[Callable[[], None] | None] = Future()
        self._ended: Future[None] = Future()

    def run(self) -> None:
        """Run the function to its end; called in the worker's thread."""
        context = copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._serve,), name="tomskit-consumer", daemon=True
        )
        thread.start()
        while True:
            asked = self._asked
            self._hub.wait_for_thread(asked)
            self._asked = Future()
            call = asked.result()
            if call is None:
                break
            call()
        thread.join()
        self._ended.result()

    def call_back(self, function: Callable[[], None]) -> None:
        """Call a function in the worker's thread, from the other one."""
        done: Future[None] = Future()
        self._asked.set_result(lambda: run_into(done, function))
        done.result()

    def _serve(self) -> None:
        run_into(self._ended, self._function)
        self._asked.set_result(None)


def consumer_class(
    base: type[celery_consumer.Consumer], *, in_loop: bool
) -> type[celery_consumer.Consumer]:
    """`base`, waiting for a broker that cannot be written to.

    Args:
        base: The class that the worker would use.
        in_loop: Whether it connects in a thread, as the event loop demands it.
    """
    kind = LoopConsumer if in_loop else PatientConsumer
    return in_front(base, kind)
