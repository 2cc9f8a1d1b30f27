"""BlockingCalls: Celery's blocking calls, made so that only their own task waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

from celery.backends.base import Backend
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from tomskit.celery._running.greenlets import GreenletCoroutine, here, wait_to_the_end
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.job import CoroutineJob
from tomskit.celery.asyncio_pool.redis_results import RedisResults

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp

__all__ = ("BlockingCalls",)

R = TypeVar("R")

logger: Final = get_logger(__name__)

_RESULT_THREADS: Final = 8
_PUBLISHING_THREADS: Final = 4
_RETRY_SECONDS: Final = 0.5
"""How long to wait before something is stored or sent again that could not be."""

_STORING: Final = frozenset(
    {"mark_as_done", "mark_as_failure", "mark_as_retry", "mark_as_revoked", "store_result"}
)
"""What stores the state of a task. The worker calls these too, and ignores what they return."""

_WAITING: Final = _STORING | {
    "add_to_chord",
    "apply_chord",
    "delete_group",
    "forget",
    "get",
    "get_children",
    "get_group_meta",
    "get_many",
    "get_result",
    "get_state",
    "get_task_meta",
    "get_traceback",
    "mark_as_started",
    "mget",
    "on_chord_part_return",
    "process_cleanup",
    "reload_group_result",
    "reload_task_result",
    "restore_group",
    "save_group",
    "set_chord_size",
    "task_result_exists",
}
"""What makes a backend wait for its server."""


class BlockingCalls:
    """Makes blocking calls for the code that shares its thread with the event loop.

    The result store and the broker have threads of their own, so that one that is away holds up
    only those who wait for it. Results in Redis need no thread while Redis is there.
    """

    def __init__(self, app: AsyncApp, hub: LoopHub) -> None:
        self.app: AsyncApp = app
        self._hub = hub
        self._results: _Results | None = None
        self._result_threads = ThreadPoolExecutor(_RESULT_THREADS, "tomskit-results")
        self._publishing_threads = ThreadPoolExecutor(_PUBLISHING_THREADS, "tomskit-publishing")
        self._detached: set[asyncio.Task[None]] = set()
        self._given_up = threading.Event()

    def can_wait(self) -> bool:
        """Whether the code that calls this can wait without holding up the event loop.

        Not a coroutine of which no task waits in a greenlet, such as a child of ``gather``; and not
        code in other threads, which need not.
        """
        return self._hub.owns_this_thread() and (here() is not None or self._hub.can_turn())

    def publish(self, send: Callable[[], R], *, patient: bool) -> R:
        """Call something that sends a message.

        Args:
            send: Sends it.
            patient: Whether to try again, until the broker is there, when it cannot be reached.
        """
        call = partial(self._send_until_sent, send) if patient else send
        return self._wait(self._publishing_threads, call)

    def results(self, backend: Backend) -> Backend:
        """What Celery is to use in place of `backend`, a result store."""
        if not self._hub.owns_this_thread():
            return backend
        if self._results is None:
            self._results = _Results(backend, self)
        return cast("Backend", self._results)

    def call_backend(self, name: str, *args: object, **kwargs: object) -> object:
        """Call a method of the result backend in a thread, for code that waits for it."""
        return self._wait(self._result_threads, partial(self._call_backend, name, *args, **kwargs))

    def detach(self, call: Callable[[], object]) -> asyncio.Task[None]:
        """Call something that waits, in a greenlet of its own, without waiting for it."""
        task = self._hub.asyncio_loop.create_task(
            GreenletCoroutine(partial(_logging_errors, call), owner=self)
        )
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return task

    def close(self) -> None:
        """Wait for the calls that have been made."""
        if self._detached:
            self._hub.wait(asyncio.wait(self._detached))
        if self._results is not None and self._results.fast is not None:
            self._hub.wait(self._results.fast.close())
        self._result_threads.shutdown()
        self._publishing_threads.shutdown()

    def give_up(self) -> None:
        """Try no longer to store and to send what cannot be."""
        self._given_up.set()

    def _call_backend(self, name: str, *args: object, **kwargs: object) -> object:
        # Each thread has a backend of its own: Celery's are not made to be shared.
        backend = self.app.backend
        method = cast("Callable[..., object]", getattr(backend, name))
        told = False
        while True:
            try:
                return method(*args, **kwargs)
            except Exception as exc:
                lost = backend.exception_safe_to_retry(exc)
                if not lost or name not in _STORING or self._given_up.is_set():
                    raise
                if not told:
                    told = True
                    logger.error(  # noqa: TRY400 (once for each result, so without a traceback)
                        "A result cannot be stored, until the result backend is there again: %r",
                        exc,
                    )
                self._given_up.wait(_RETRY_SECONDS)

    def _send_until_sent(self, send: Callable[[], R]) -> R:
        told = False
        while True:
            try:
                return send()
            except OperationalError as exc:
                if self._given_up.is_set():
                    raise
                if not told:
                    told = True
                    logger.error(  # noqa: TRY400 (once for each message, so without a traceback)
                        "A task cannot be sent, until the broker is there again: %r", exc
                    )
                self._given_up.wait(_RETRY_SECONDS)

    def _wait(self, threads: ThreadPoolExecutor, call: Callable[[], R]) -> R:
        job = here()
        if isinstance(job, CoroutineJob) and not job.in_coroutine:
            # The tracer of a task that was ended stores and sends nothing more.
            job.go_on()
        future = self._hub.asyncio_loop.run_in_executor(threads, copy_context().run, call)
        return self._hub.wait(future) if job is None else wait_to_the_end(future)


def _logging_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        logger.exception("The result backend failed")


class _Results:
    """A result backend that holds up only who calls it.

    Attributes:
        fast: Its methods are tried first, in the loop, of those that store a state. Its commands keep
            their order, so a state that is stored later wins.
    """

    def __init__(self, backend: Backend, calls: BlockingCalls) -> None:
        self._backend = backend
        self._calls = calls
        self._waiting = _WAITING
        if type(backend).process_cleanup is Backend.process_cleanup:
            self._waiting -= {"process_cleanup"}  # it does nothing
        self.fast: RedisResults | None = None
        if calls.app.config.CELERY_REDIS_FAST_PATH is not False and RedisResults.fits(backend):
            self.fast = RedisResults(
                backend,
                chord_part=partial(calls.call_backend, "on_chord_part_return"),
                store_later=self._store_later,
            )

    def __getattr__(self, name: str) -> object:
        if name in _STORING and self._calls.can_wait():
            return partial(self._store, name)
        if name in self._waiting and self._calls.can_wait():
            return partial(self._calls.call_backend, name)
        value: object = getattr(self._backend, name)
        return value

    def _store(self, name: str, *args: object, **kwargs: object) -> object:
        job = here()
        if job is None:
            # The worker itself does not wait: a store that is away must not keep it from other tasks.
            self._calls.detach(partial(self._store, name, *args, **kwargs))
            return None
        if isinstance(job, CoroutineJob) and job.was_ended:
            # How it has ended is stored by the worker, and is to stay.
            if not job.in_coroutine:
                job.go_on()
            return None
        if self.fast is not None:
            try:
                return cast("Callable[..., object]", getattr(self.fast, name))(*args, **kwargs)
            except self.fast.connection_errors as exc:
                # In a thread it is tried again until it works.
                logger.debug("Redis was lost while a result was stored: %r", exc)
        return self._calls.call_backend(name, *args, **kwargs)

    def _store_later(self, *args: object, **kwargs: object) -> asyncio.Task[None]:
        return self._calls.detach(
            partial(self._calls.call_backend, "store_result", *args, **kwargs)
        )

    if not TYPE_CHECKING:

        @property
        def __class__(self):  # noqa: ANN204 (what it answers depends)
            return type(self._backend)
