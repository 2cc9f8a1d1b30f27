"""PoolBackend: the result backend of a worker with the pool, which blocks only its caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.utils.log import get_logger

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.error_backend import keep_original
from tomskit.celery._client.retrying import Outage, Retrying, retry_stores
from tomskit.celery._internals.celery_backend import (
    BLOCKING,
    STORING,
    cleans_up,
    is_redis_backend,
)
from tomskit.celery._internals.celery_worker import stop_requested
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery._running.places import GreenletPlace, Place, here
from tomskit.celery.asyncio_pool.failures import Failures
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.redis_results import RedisResults

if TYPE_CHECKING:
    from celery.backends.base import Backend
else:
    Backend = object

__all__ = ("BackendCalls",)

logger: Final = get_logger(__name__)

_THREADS: Final = 8


class _Call(GreenletPlace):
    """A greenlet of the worker itself, for a call of the result backend that no task waits for."""

    __slots__ = ()


class BackendCalls:
    """Makes the calls of the result backend so that only the calling task waits.

    They are made in threads of their own: a store that is away blocks only the tasks that use it.
    States in Redis need no thread while Redis answers.

    Attributes:
        failures: How many tasks fail at once.
    """

    def __init__(self, app: AsyncApp, hub: LoopHub) -> None:
        self._app = app
        self._hub = hub
        self._backend: _PoolBackend | None = None
        self._outage = Outage("store a result", "the result backend", logger)
        self._threads = ThreadPoolExecutor(_THREADS, "tomskit-results")
        self._detached: set[asyncio.Task[None]] = set()
        self._storing: dict[object, asyncio.Future[object]] = {}
        self.failures: Final = Failures()

    def wrap(self, backend: Backend) -> Backend:
        """The backend that Celery is to use in place of `backend`, in the worker's thread."""
        if not self._hub.owns_this_thread():
            return backend
        if self._backend is None:
            self._backend = _PoolBackend(backend, self, self._app)
        return self._backend

    @property
    def in_loop(self) -> RedisResults | None:
        """Stores states in the loop; None where they are stored by threads."""
        if self._backend is None:
            self._app.backend  # noqa: B018 (which is `wrap`)
        return None if self._backend is None else self._backend.in_loop

    def call(self, name: str, *args: Any, **kwargs: Any) -> object:
        """Call a method of the result backend in a thread, for code that waits for it."""
        place = here()
        assert place is not None, "only code that can wait calls this"  # noqa: S101
        place.check()
        call = partial(copy_context().run, self._call_here, name, *args, **kwargs)
        if name in STORING:
            return place.wait_to_the_end(self._store_in_order(args[0], call))
        return place.wait_to_the_end(self._in_thread(call))

    def _in_thread(self, call: Callable[[], object]) -> asyncio.Future[object]:
        return self._hub.asyncio_loop.run_in_executor(self._threads, call)

    def _store_in_order(
        self, task_id: object, call: Callable[[], object]
    ) -> asyncio.Future[object]:
        """Store a state of a task when those of it that came before are stored.

        Most backends read what is stored, so as not to replace a success, and then write: of two at
        once the older one may be written last. A retried task may end before it is stored that it is to
        be retried.
        """
        before = self._storing.get(task_id)
        if before is None:
            last = self._in_thread(call)
        else:
            last = self._hub.asyncio_loop.create_task(self._store_after(before, call))
        self._storing[task_id] = last
        last.add_done_callback(partial(self._stored, task_id))
        return last

    async def _store_after(
        self, before: asyncio.Future[object], call: Callable[[], object]
    ) -> object:
        await asyncio.wait([before])
        return await self._in_thread(call)

    def _stored(self, task_id: object, last: asyncio.Future[object]) -> None:
        if self._storing.get(task_id) is last:
            del self._storing[task_id]

    def detach(self, call: Callable[[], object]) -> asyncio.Task[None]:
        """Call a function that waits in a greenlet of its own, and return at once."""
        task = self._hub.asyncio_loop.create_task(
            GreenletCoroutine(partial(_logging_errors, call), owner=_Call())
        )
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        return task

    def close(self) -> None:
        """Wait for the calls that have been made."""
        if self._detached:
            self._hub.wait(asyncio.wait(self._detached))
        if self._backend is not None and self._backend.in_loop is not None:
            self._hub.wait(self._backend.in_loop.close())
        self._threads.shutdown()

    def _call_here(self, name: str, *args: Any, **kwargs: Any) -> object:
        # Each thread has a backend of its own: Celery's are not made to be shared.
        backend = self._app.backend
        method: Callable[..., object] = getattr(backend, name)
        if name not in STORING:
            return method(*args, **kwargs)
        return self.retrying(backend).run(partial(method, *args, **kwargs))

    def retrying(self, backend: Backend) -> Retrying:
        """Retries an operation that stores a state until `backend` returns."""
        return retry_stores(self._app, backend, self._outage, stops=stop_requested)


def _logging_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        logger.exception("The result backend failed")


class _PoolBackend(Backend):
    """A result backend that blocks only its caller.

    Attributes:
        in_loop: Stores states in the loop, and is tried first. Its commands keep their order, so a
            state that is stored later wins.
    """

    def __init__(self, backend: Backend, calls: BackendCalls, app: AsyncApp) -> None:
        self._celerys = backend
        self._calls = calls
        self._blocking = BLOCKING if cleans_up(backend) else BLOCKING - {"process_cleanup"}
        self.in_loop: RedisResults | None = None
        if app.config.CELERY_REDIS_FAST_PATH is not False and is_redis_backend(backend):
            self.in_loop = RedisResults(
                backend,
                chord_part=partial(calls.call, "on_chord_part_return"),
                store_later=self._store_later,
            )

    def __getattr__(self, name: str) -> object:
        if name in self._blocking and here() is not None:
            call = self._store if name in STORING else self._calls.call
            return partial(call, name)
        value: object = getattr(self._celerys, name)
        return value

    def _store(self, name: str, *args: Any, **kwargs: Any) -> object:
        place = here()
        assert place is not None, "only code that can wait calls this"  # noqa: S101
        if name == "mark_as_failure":
            _, error, *_ = args
            keep_original(self._celerys, error)
        if not place.waits_for_stores:
            self._calls.detach(partial(self._store, name, *args, **kwargs))
            return None
        if not place.may_store() or (place.has_started and _is_start(name, *args, **kwargs)):
            return None
        with self._calls.failures.storing(place):
            if self.in_loop is None:
                return self._calls.call(name, *args, **kwargs)
            return self._retry_in_loop(place, partial(getattr(self.in_loop, name), *args, **kwargs))

    def _store_later(self, call: Callable[[], object]) -> asyncio.Task[None]:
        return self._calls.detach(lambda: self._retry_in_loop(here(), call))

    def _retry_in_loop(self, place: Place | None, call: Callable[[], object]) -> object:
        assert place is not None, "only code that can wait calls this"  # noqa: S101
        return self._calls.retrying(self._celerys).run(
            lambda: call() if place.may_store() else None,
            sleep=lambda seconds: place.wait(asyncio.sleep(seconds)),
        )

    if not TYPE_CHECKING:

        @property
        def __class__(self):  # noqa: ANN204 (the class of the other backend)
            return type(self._celerys)


def _is_start(name: str, *args: object, **kwargs: object) -> bool:
    """Whether a call stores that a task has started. What it stores may be anything, and equal anything."""
    if name != "store_result":
        return False
    state = args[_STATE] if len(args) > _STATE else kwargs.get("state")
    return type(state) is str and state == states.STARTED


_STATE: Final = 2
"""Which argument of ``store_result`` the state is."""
