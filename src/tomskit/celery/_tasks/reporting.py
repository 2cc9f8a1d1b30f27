"""report: tells who waits for a task how far it is.

A task may report as often as it likes. The newest report is stored some times a second, and the last one
before the task's result.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Never, TypeVar

from celery.exceptions import TimeLimitExceeded
from celery.utils.log import get_logger
from pydantic import BaseModel
from typing_extensions import override

from tomskit.celery._client.progress import store_progress
from tomskit.celery._client.retrying import Outage, is_away
from tomskit.celery._running.context import TaskIdentity
from tomskit.celery._running.places import GreenletPlace
from tomskit.celery._values.models import Dataclass
from tomskit.celery._values.progress import dump_progress
from tomskit.errors import NotInitializedError

if TYPE_CHECKING:
    from celery import Task
    from celery.app.task import Context

__all__ = ("end_reports", "no_reports", "report", "reporters")

R = TypeVar("R")

logger: Final = get_logger(__name__)

_PAUSE: Final = 0.2
"""Seconds between two reports of a task that are stored."""
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries while the result backend is away."""
_LAST_SECONDS: Final = 5.0
"""How long the end of a task waits until its last report is stored."""


async def report(progress: BaseModel | Dataclass | Mapping[str, object]) -> None:
    """Report how far the running task is, to those who read ``result.progress(...)``.

    Await it in an async task, or in any coroutine that one awaits, as often as you like: at most five
    reports a second are stored, the newest each time, and the last one before the task's result. It does
    not wait for the result backend. The state of the task is ``PROGRESS`` then, and ``result.info`` is
    a dict.

    Args:
        progress: An instance of a model or a dataclass, or a TypedDict.

    Raises:
        NotInitializedError: No async task runs here.
        TaskResultError: It cannot be sent, or would arrive as something else.
        ConfigurationError: It is of a type that cannot be sent.
    """
    identity = TaskIdentity.current()
    if identity is None:
        raise NotInitializedError(
            "report() was called outside of a task. Await it in an async task, or in a coroutine that "
            "one awaits; in a test, call the task with task.apply()."
        )
    task, request = identity.task, identity.request
    if not hasattr(task, "_tomskit_codec"):
        raise NotInitializedError(
            f"report() was called in {task.name}, which is not an async task. Define it with async def and "
            'async_shared_task, or call self.update_state(state="PROGRESS", meta={...}).'
        )
    wire = dump_progress(task.name, progress)
    reporter = reporters.get(request)
    if reporter is None and _has_readers(task, request):
        reporter = reporters[request] = _Reporter(task, request)
    if reporter is not None:
        if reporter.is_over:
            raise NotInitializedError(
                f"report() was called in a hook of {reporter.name}, or after its end: the task's "
                "function reports, and what it awaits."
            )
        reporter.take(wire)
    # A coroutine that does nothing but report lets others run.
    await asyncio.sleep(0)


def end_reports(
    request: Context,
    run: Callable[[Coroutine[object, Never, None]], None],
    error: BaseException | None = None,
) -> None:
    """Store the last report of a task whose coroutine has ended, before its result is stored.

    Args:
        request: The request of the task.
        run: Runs a coroutine of the task to its end.
        error: What the task's coroutine has raised.
    """
    reporter = reporters.pop(request, None)
    if reporter is None:
        return
    try:
        # One that is ended by force may have left its event loop blocked.
        if error is None or (
            isinstance(error, Exception) and not isinstance(error, TimeLimitExceeded)
        ):
            run(reporter.finish())
    except Exception:
        logger.exception("Cannot store the last progress of %s", reporter.name)
    finally:
        reporter.is_over = True


@contextmanager
def no_reports(task: Task[..., Any]) -> Generator[None]:
    """Let nothing report for the running call of this task meanwhile."""
    request = task.request
    none = reporters[request] = _Reporter(task, request)
    none.is_over = True
    try:
        yield
    finally:
        reporters.pop(request, None)


def _has_readers(task: Task[..., Any], request: Context) -> bool:
    """Whether what the task reports can be read by anybody."""
    if request.id is None or request.called_directly:
        return False
    if request.is_eager:
        return bool(task.app.conf.task_store_eager_result)
    # What a call says wins, but a request has a default that says nothing.
    ignores = vars(request).get("ignore_result")
    if task.ignore_result if ignores is None else ignores:
        if task.name not in _warned:
            _warned.add(task.name)
            logger.warning(
                "%s reports progress that nobody can read, because its result is ignored: remove "
                "ignore_result=True, or the reports",
                task.name,
            )
        return False
    return True


_warned: Final[set[str]] = set()

_outage: Final = Outage("store the progress of tasks", "the result backend", logger)


class _Place(GreenletPlace):
    """Where the asyncio pool's result backend stores what a task reports."""

    __slots__ = ("_reporter",)

    def __init__(self, reporter: _Reporter) -> None:
        self._reporter = reporter

    @override
    def may_store(self) -> bool:
        # It tries again until the server returns; the result is stored meanwhile.
        return not self._reporter.is_over


class _Reporter:
    """Stores what a task reports, the newest report each time.

    Attributes:
        name: The task's name and id, for log lines.
        is_over: Nothing is to be stored any more.
    """

    def __init__(self, task: Task[..., Any], request: Context) -> None:
        self.name: Final = f"{task.name}[{request.id}]"
        self.is_over: bool = False
        self._task = task
        self._request = request
        self._place = _Place(self)
        # A task may report from event loops in several threads.
        self._lock = threading.Lock()
        self._newest: dict[str, object] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._finishing = asyncio.Event()

    def take(self, wire: dict[str, object]) -> None:
        """Take a report, to be stored soon."""
        with self._lock:
            self._newest = wire
            if self._storing is None or self._storing.done():
                self._storing = asyncio.create_task(self._store_again_and_again())

    async def finish(self) -> None:
        """Store the last report, unless that takes too long."""
        with self._lock:
            storing = self._storing
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                if storing is None or storing.done():
                    await self._store()
                elif storing.get_loop() is asyncio.get_running_loop():
                    self._finishing.set()
                    await asyncio.wait([storing])
        except TimeoutError:
            logger.warning("The last progress of %s could not be stored in time", self.name)
        finally:
            self.is_over = True
            if storing is not None and storing.get_loop() is asyncio.get_running_loop():
                storing.cancel()

    async def _store_again_and_again(self) -> None:
        pause = _PAUSE
        while True:
            is_stored = await self._store()
            pause = _PAUSE if is_stored else min(2 * pause, _LONGEST_PAUSE)
            if self._finishing.is_set():
                if is_stored and self._newest is not None and not self.is_over:
                    # It was reported while an older one was being stored.
                    continue
                return
            try:
                async with asyncio.timeout(pause):
                    await self._finishing.wait()
            except TimeoutError:
                pass
            with self._lock:
                if self._newest is None or self.is_over:
                    self._storing = None
                    return

    async def _store(self) -> bool:
        """Store the newest report; False if the result backend is away."""
        wire = self._newest
        if wire is None or self.is_over:
            return True
        try:
            await store_progress(self._task, self._request, wire, self._place)
        except Exception as exc:  # noqa: BLE001 (a task does not fail because of its reports)
            if is_away(exc):
                _outage.failed(exc)
                return False
            logger.warning("Cannot store the progress of %s: %r", self.name, exc)
        else:
            _outage.ended()
        with self._lock:
            if self._newest is wire:
                self._newest = None
        return True


reporters: Final[dict[Context, _Reporter]] = {}
"""Of the tasks that run in this process and have reported something, by their requests."""
