"""LoopHub: the worker's own event loop, kombu's, waiting through an asyncio loop.

The worker and all coroutines share one thread. While the worker has nothing to do, the asyncio loop
runs: so neither needs locks, and no task moves from thread to thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.utils.eventio import READ
from typing_extensions import override

from tomskit.celery._internals.kombu import (
    Poller,
    add_filler,
    descriptor_of,
    poller_of,
    set_poller,
)
from tomskit.celery._internals.refusals import RefusedPoolError
from tomskit.celery._running.event_loop import run_loop
from tomskit.celery._running.places import Place
from tomskit.celery._running.strays import lineage

if TYPE_CHECKING:
    from kombu.asynchronous.timer import Timer

__all__ = ("LoopHub", "run_into")

R = TypeVar("R")

_WAIT_SECONDS = 1.0
"""How long to wait at most where kombu names no time, as kombu's own loop does."""


def run_into(future: concurrent.futures.Future[R], function: Callable[[], R]) -> None:
    """Call a function, and give a future what it returns or raises."""
    try:
        future.set_result(function())
    except BaseException as exc:  # noqa: BLE001 (it is raised where the future is looked at)
        future.set_exception(exc)


class LoopHub(Hub):
    """A hub that polls through an asyncio loop.

    Its poller is kombu's own: an epoll object, which the asyncio loop watches as one more file
    descriptor. So other threads may register descriptors in it, as those that reconnect do.

    Attributes:
        asyncio_loop: The loop of this thread. It runs only while the worker waits.
        make_calls: Tells Celery what has happened to tasks, and returns whether anything has.
    """

    def __init__(self, timer: Timer | None = None) -> None:
        self.asyncio_loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.take_this_thread()
        self._poller_fd: int | None = None
        self._place = _BetweenTurns(self)
        self._has_news = False
        self._running = False
        self._turning = False
        self._watching = False
        self._signals: deque[Callable[[], None]] = deque()
        self.make_calls: Callable[[], bool] = lambda: False
        # kombu's loop sleeps, and all tasks with it, when it has no descriptor to poll.
        self._filler, self._filler_end = os.pipe()
        super().__init__(timer)

    def take_this_thread(self) -> None:
        """Belong to this thread: a worker may be made in one thread and started in another."""
        self._thread = threading.get_ident()
        # A forked process, such as the embedded beat, has a main thread of the same ident, and a copy
        # of the loop that it must not run.
        self._process = lineage.here

    def owns_this_thread(self) -> bool:
        """Whether this is the thread of the worker and of its asyncio loop."""
        return threading.get_ident() == self._thread and lineage.here is self._process

    def turn(self, timeout: float) -> None:
        """Let the asyncio loop run until something happens for the worker, `timeout` s at most.

        Callbacks that are ready run in any case.
        """
        loop = self.asyncio_loop
        self._watch_poller()
        if self._has_news:
            # What has happened since the worker's turn began may be something to tell the broker,
            # which is done when the next turn begins.
            self._has_news, timeout = False, 0
        timer = loop.call_later(timeout, loop.stop) if timeout > 0 else loop.call_soon(loop.stop)
        self._turning = True
        try:
            self._run()
        finally:
            self._turning = False
            timer.cancel()
        self._handle_signals()

    def settle(self) -> None:
        """Tell Celery and the broker at once what has happened to tasks in the turn that ends.

        The events of the next turn may be a hundred messages, and a task whose end the broker does not
        know runs again if the worker is killed meanwhile.
        """
        if self.make_calls():
            for callback in tuple(self.on_tick):
                callback()

    def wait(self, awaitable: Awaitable[R]) -> R:
        """Let the asyncio loop run until `awaitable` is done; the worker does nothing meanwhile."""
        loop = self.asyncio_loop
        future = asyncio.ensure_future(awaitable, loop=loop)
        future.add_done_callback(lambda _: loop.stop())
        while not future.done():
            self._run()
            self._handle_signals()
        return future.result()

    def wait_for_thread(self, future: concurrent.futures.Future[R]) -> None:
        """As `wait`, for what a thread does; never raises its error."""
        loop = self.asyncio_loop
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        while not future.done():
            self._run()
            self._handle_signals()

    def run_in_thread(self, function: Callable[[], R]) -> R:
        """Call a function that blocks, and let the asyncio loop run meanwhile."""
        done: concurrent.futures.Future[R] = concurrent.futures.Future()
        arguments = (run_into, done, function)
        threading.Thread(target=copy_context().run, args=arguments, daemon=True).start()
        self.wait_for_thread(done)
        return done.result()

    def wait_for_socket(self, fd: int, *, seconds: float | None, write: bool = False) -> bool:
        """Let the asyncio loop run until something can be read from `fd`, or written to it.

        Args:
            fd: The descriptor.
            seconds: How long at most; None is for ever.
            write: Whether it is to be written to.

        Returns:
            Whether it can be.
        """
        loop = self.asyncio_loop
        ready = over = False

        def stop() -> None:
            nonlocal ready
            ready = True
            loop.stop()

        def give_up() -> None:
            nonlocal over
            over = True
            loop.stop()

        (loop.add_writer if write else loop.add_reader)(fd, stop)
        timer = None if seconds is None else loop.call_later(seconds, give_up)
        try:
            while not ready and not over:
                self._run()
                self._handle_signals()
        finally:
            (loop.remove_writer if write else loop.remove_reader)(fd)
            if timer is not None:
                timer.cancel()
        return ready

    def place(self) -> Place | None:
        """The place of the worker's own code; None in other threads and in coroutines."""
        return self._place if self.can_turn() else None

    def can_turn(self) -> bool:
        """Whether this is the worker's own code, which may let the asyncio loop run."""
        return self.owns_this_thread() and not self._running

    def wake(self) -> bool:
        """Give the worker its turn soon; from the asyncio loop's thread.

        Returns:
            Whether it waits for that. Otherwise it has its turn now.
        """
        if self._running:
            self.asyncio_loop.stop()
        return self._running

    def begin_turn_soon(self) -> None:
        """Begin the worker's next turn without waiting for anything; called in a turn."""
        self._has_news = True

    def call_in_turn(self, handle: Callable[[], None]) -> None:
        """Call `handle` where the worker waits, as soon as it does; from a signal handler."""
        self._signals.append(handle)
        self.asyncio_loop.call_soon_threadsafe(self.wake)

    def _watch_poller(self) -> None:
        if not self._watching and self._poller_fd is not None:
            self.asyncio_loop.add_reader(self._poller_fd, self._on_poller_ready)
            self._watching = True

    def _unwatch_poller(self) -> None:
        if self._watching and self._poller_fd is not None:
            self.asyncio_loop.remove_reader(self._poller_fd)
        self._watching = False

    def _on_poller_ready(self) -> None:
        if self._turning:
            self.asyncio_loop.stop()
        else:
            # The worker waits for something else, and polls in its next turn.
            self._unwatch_poller()

    def _run(self) -> None:
        self._running = True
        try:
            run_loop(self.asyncio_loop)
        finally:
            self._running = False

    def _handle_signals(self) -> None:
        while self._signals:
            self._signals.popleft()()

    # -- what kombu calls

    @cached_property
    @override
    def scheduler(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride] (its type is wrong)
        """Hands out timers. One that fires, such as that of a task with an ETA, may free credit."""
        for delay, entry in iter(self.timer):
            if entry is not None:
                self.begin_turn_soon()
            yield delay, entry

    @override
    def _create_poller(self) -> None:
        super()._create_poller()
        poller = _LoopPoller(self, poller_of(self))
        self._poller_fd = poller.fileno()
        set_poller(self, poller)
        add_filler(self, self._filler, _do_nothing)
        poller.register(self._filler, READ)

    @override
    def reset(self) -> None:
        is_current = get_event_loop() is self
        super().reset()
        if is_current:
            # kombu forgets it, as if it was closed. But the worker goes on with it after its connection was
            # lost, and connections that do not find it keep the loop from running while they wait.
            set_event_loop(self)

    @override
    def _close_poller(self) -> None:
        self._unwatch_poller()
        self._poller_fd = None
        super()._close_poller()

    @override
    def call_soon(self, callback: Callable[..., object], *args: object) -> object:
        scheduled: object = super().call_soon(callback, *args)
        if self._running and self.owns_this_thread():
            # From a coroutine: kombu's hub makes such calls before it waits, not while it does.
            self.asyncio_loop.stop()
        return scheduled

    @override
    def close(self, *args: object) -> None:
        super().close(*args)
        if self._filler_end >= 0:
            os.close(self._filler)
            os.close(self._filler_end)
            self._filler_end = -1


class _BetweenTurns(Place):
    """The worker's own code, which lets the asyncio loop run while it waits."""

    waits_for_stores = False

    def __init__(self, hub: LoopHub) -> None:
        self._hub = hub

    @override
    def wait(self, awaitable: Awaitable[R]) -> R:
        return self._hub.wait(awaitable)

    @override
    def wait_to_the_end(self, future: asyncio.Future[R]) -> R:
        return self._hub.wait(future)


def _do_nothing() -> None:
    """Never called: the filler never becomes readable."""


class _LoopPoller:
    """kombu's poller, waited for in the asyncio loop."""

    def __init__(self, hub: LoopHub, poller: Poller) -> None:
        self._hub = hub
        self._poller = poller
        self.register = poller.register
        self.unregister = poller.unregister
        self.close = poller.close

    def fileno(self) -> int:
        descriptor = descriptor_of(self._poller)
        if descriptor is None:
            raise RefusedPoolError("The asyncio pool needs a system with epoll or kqueue.")
        return descriptor

    def poll(self, timeout: float | None) -> list[tuple[int, int]] | None:
        if not self._hub.owns_this_thread():
            # Celery asks other workers for their state while it connects, and waits for answers.
            return self._poller.poll(timeout)
        self._hub.turn(_WAIT_SECONDS if timeout is None else timeout)
        self._hub.settle()
        return self._poller.poll(0)
