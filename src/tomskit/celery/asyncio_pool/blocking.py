"""BlockingCalls: Celery's blocking calls, made so that only their own task waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast

from celery.backends.base import Backend
from celery.utils.log import get_logger

from tomskit.celery.asyncio_pool.greenlets import here, wait_to_the_end
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.job import CoroutineJob
from tomskit.celery.asyncio_pool.redis_results import RedisResults

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("BlockingCalls",)

P = ParamSpec("P")
R = TypeVar("R")

logger: Final = get_logger(__name__)

_RESULT_THREADS: Final = 8
_PUBLISHING_THREADS: Final = 4
_RETRY_SECONDS: Final = 0.5
"""How long to wait before a result is stored again that could not be stored."""

_STORING: Final = frozenset(
    {"mark_as_done", "mark_as_failure", "mark_as_retry", "mark_as_revoked", "store_result"}
)
"""What stores something of a backend. The worker calls these too, and ignores what they return."""

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

    def __init__(self, app: Celery, hub: LoopHub) -> None:
        self._app = app
        self._hub = hub
        self._results: _Results | None = None
        self._result_threads = ThreadPoolExecutor(_RESULT_THREADS, "tomskit-results")
        self._publishing_threads = ThreadPoolExecutor(_PUBLISHING_THREADS, "tomskit-publishing")
        self._given_up = threading.Event()

    def can_wait(self) -> bool:
        """Whether the code that calls this can wait without holding up the event loop.

        Not a coroutine of which no task waits in a greenlet, such as a child of ``gather``; and not
        code in other threads, which need not.
        """
        return self._hub.owns_this_thread() and (here() is not None or self._hub.can_turn())

    def publish(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something that talks to the broker."""
        return self._wait(self._publishing_threads, partial(function, *args, **kwargs))

    def results(self, backend: Backend) -> Backend:
        """What Celery is to use in place of `backend`, a result store."""
        if not self._hub.owns_this_thread():
            return backend
        if self._results is None:
            self._results = _Results(backend, self)
        return cast("Backend", self._results)

    def call_backend(self, name: str, *args: object, **kwargs: object) -> object:
        """Call a method of the result backend in a thread."""
        call = partial(self._call_backend, name, *args, **kwargs)
        if name in _STORING and here() is None:
            # The worker goes on meanwhile: a store that is away must not keep it from other tasks.
            self._result_threads.submit(copy_context().run, _logging_errors, name, call)
            return None
        return self._wait(self._result_threads, call)

    def close(self) -> None:
        """Wait for the calls that have been made."""
        if self._results is not None and self._results.fast is not None:
            self._hub.wait(self._results.fast.close())
        self._result_threads.shutdown()
        self._publishing_threads.shutdown()

    def give_up(self) -> None:
        """Try no longer to store what cannot be stored."""
        self._given_up.set()

    def _call_backend(self, name: str, *args: object, **kwargs: object) -> object:
        # Each thread has a backend of its own: Celery's are not made to be shared.
        backend = self._app.backend
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

    def _wait(self, threads: ThreadPoolExecutor, call: Callable[[], R]) -> R:
        job = here()
        if isinstance(job, CoroutineJob):
            # Nothing is stored or sent any more for a task that was ended.
            job.go_on()
        future = self._hub.asyncio_loop.run_in_executor(threads, copy_context().run, call)
        return self._hub.wait(future) if job is None else wait_to_the_end(future)


def _logging_errors(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        logger.exception("The result backend failed: %s", name)


class _Results:
    """A result backend that holds up only who calls it.

    Attributes:
        fast: Its methods are tried first, in the loop, when a task calls those that store something.
    """

    def __init__(self, backend: Backend, calls: BlockingCalls) -> None:
        self._backend = backend
        self._calls = calls
        self._waiting = _WAITING
        if type(backend).process_cleanup is Backend.process_cleanup:
            self._waiting -= {"process_cleanup"}  # it does nothing
        self.fast: RedisResults | None = None
        if RedisResults.fits(backend):
            self.fast = RedisResults(backend, partial(calls.call_backend, "on_chord_part_return"))

    def __getattr__(self, name: str) -> object:
        if name in self._waiting and self._calls.can_wait():
            if name in _STORING and self.fast is not None and here() is not None:
                return partial(self._store_fast, self.fast, name)
            return partial(self._calls.call_backend, name)
        value: object = getattr(self._backend, name)
        return value

    def _store_fast(self, fast: RedisResults, name: str, *args: object, **kwargs: object) -> object:
        try:
            return cast("Callable[..., object]", getattr(fast, name))(*args, **kwargs)
        except fast.connection_errors as exc:
            # In a thread it is tried again until it works.
            logger.debug("Redis was lost while a result was stored: %r", exc)
        return self._calls.call_backend(name, *args, **kwargs)

    if not TYPE_CHECKING:

        @property
        def __class__(self):  # noqa: ANN204 (what it answers depends)
            return type(self._backend)
