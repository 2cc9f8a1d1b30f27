"""The result backend of a worker whose tasks block: what it stores is stored again until the server returns.

Celery retries for some time after a connection was lost, and not at all after an answer such as
READONLY: a task that has ended well would become a FAILURE.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from celery.utils.log import get_logger

from tomskit.celery._client.progress import reported_here
from tomskit.celery._client.retrying import Outage, retry_stores
from tomskit.celery._internals.billiard import is_pool_process
from tomskit.celery._internals.celery_backend import STORED_WITH_PATIENCE
from tomskit.celery._internals.celery_worker import quit_requested, stop_requested
from tomskit.celery._internals.python import leave_out_others
from tomskit.celery._running.forks import between_forks, may_fork

if TYPE_CHECKING:
    from celery.backends.base import Backend

    from tomskit.celery._app import AsyncApp
    from tomskit.celery._running.places import Place

__all__ = ("PatientBackends",)

logger: Final = get_logger(__name__)

_SLICE_SECONDS: Final = 0.1
"""How often a pause looks whether the worker is to end at once."""

_MOST_LATER: Final = 1000
"""How many states the worker itself keeps while the server is away."""


class PatientBackends:
    """Lets the result backends of a worker's app retry what they store until their server returns.

    A task that has ended waits in its slot. The worker itself does not wait, as it has other things
    to do: it stores the state of a task whose process has died, say, from a thread.
    """

    def __init__(self, app: AsyncApp) -> None:
        self._app = app
        self._outage = Outage("store a result", "the result backend", logger)
        self._calls: deque[Callable[[], object]] = deque()
        # Signal handlers add calls too: nothing that they may find locked.
        self._news: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def wrap(self, backend: Backend) -> Backend:
        """The same backend, with patience. Celery makes one for each thread."""
        known = vars(backend)
        if not isinstance(known.get("store_result"), _Method):
            for name in STORED_WITH_PATIENCE:
                known[name] = _Method(self, backend, name)
        return backend

    def finish(self) -> None:
        """Wait until everything is stored, or the worker is to end at once."""
        while self._calls and not quit_requested():
            time.sleep(_SLICE_SECONDS)

    def store(self, backend: Backend, name: str, call: Callable[..., object]) -> object:
        """Call a method of `backend` with its arguments, again until the server returns."""
        retrying = retry_stores(
            self._app, backend, self._outage, stops=stop_requested, stopped=quit_requested
        )
        report = reported_here.get()
        if report is not None:
            # Its task may end meanwhile, and would then seem to run for ever.
            call = partial(_unless_over, report, call)
        if self._may_wait():
            value = retrying.run(call, sleep=self._pause)
            # A coroutine of another thread's task may have raised the same error meanwhile.
            leave_out_others(sys.exception())
            return value
        # In its order: what comes later waits for what came first.
        if not self._calls:
            try:
                return call()
            except Exception as exc:  # noqa: BLE001 (`failed` raises it where it is not to be retried)
                retrying.failed(exc)
        if len(self._calls) >= _MOST_LATER:
            return call()
        self._calls.append(partial(self._call_again, name, call))
        self._news.put(None)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tomskit-results", daemon=True)
            self._thread.start()
        return None

    def _may_wait(self) -> bool:
        return (
            self._app.current_worker_task is not None
            or is_pool_process()
            or threading.current_thread() is not threading.main_thread()
        )

    def _call_again(self, name: str, call: Any) -> object:
        # Each thread has a backend of its own: Celery's are not made to be shared.
        return getattr(self._app.backend, name)(*call.args, **call.keywords)

    def _run(self) -> None:
        while True:
            self._news.get()
            with between_forks():
                try:
                    self._calls[0]()
                except Exception:
                    logger.exception("Cannot store a result")
                self._calls.popleft()

    def _pause(self, seconds: float) -> None:
        if threading.current_thread() is self._thread:
            with may_fork():
                _pause(seconds)
        else:
            _pause(seconds)


class _Method:
    """Replaces a method of a result backend."""

    def __init__(self, backends: PatientBackends, backend: Backend, name: str) -> None:
        self._backends = backends
        self._backend = backend
        self._name = name
        self._method: Callable[..., object] = getattr(backend, name)

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        call = partial(self._method, *args, **kwargs)
        return self._backends.store(self._backend, self._name, call)


class _TooLateError(Exception):
    """The task has ended before its report was stored."""


def _unless_over(report: Place, call: Callable[..., object]) -> object:
    if not report.may_store():
        raise _TooLateError
    return call()


def _pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not quit_requested():
        time.sleep(min(left, _SLICE_SECONDS))
