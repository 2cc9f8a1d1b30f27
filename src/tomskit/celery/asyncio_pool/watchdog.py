"""Watchdog: names the task that blocks the event loop, and the line it is at."""

from __future__ import annotations

import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from celery.utils.log import get_logger
from greenlet import getcurrent

from tomskit.celery._internals.python import context_of_callback, frame_of_thread
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.job import CoroutineJob, job_of

if TYPE_CHECKING:
    from asyncio import TimerHandle

__all__ = ("Watchdog",)

logger: Final = get_logger(__name__)

_QUARTERS: Final = 4
_OURS: Final = str(Path(__file__).parents[2])
_STDLIB: Final = str(Path(threading.__file__).parent)


class Watchdog:
    """Watches from a thread whether the event loop runs.

    Args:
        hub: The worker's loop.
        seconds: How long a task may block the loop before the log names it; 0 or less is for ever.
    """

    def __init__(self, hub: LoopHub, seconds: float) -> None:
        self._hub = hub
        self._seconds = seconds
        self._beats = 0
        self._timer: TimerHandle | None = None
        self._stopped = threading.Event()
        self._watched = threading.get_ident()
        self._main = getcurrent()
        self._thread = threading.Thread(target=self._watch, name="tomskit-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the calling thread, which is the loop's."""
        if self._seconds > 0:
            self._watched = threading.get_ident()
            self._main = getcurrent()
            self._beat()
            self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
            self._thread.join()

    def _beat(self) -> None:
        self._beats += 1
        self._timer = self._hub.asyncio_loop.call_later(self._seconds / _QUARTERS, self._beat)

    def _watch(self) -> None:
        seen, since, reported = 0, 0, False
        while not self._stopped.wait(self._seconds / _QUARTERS):
            if self._beats != seen:
                seen, since, reported = self._beats, 0, False
                continue
            since += 1
            # So many quarters without a beat: the loop has not run for that long.
            if since > _QUARTERS and not reported:
                reported = True
                self._report(self._stack())

    def _stack(self) -> list[FrameType]:
        """The frames of the loop's thread, the innermost first."""
        frames: list[FrameType] = []
        # The stack of a greenlet begins with the greenlet. The code that has switched to it, such as
        # asyncio with its callback, is on the stack of the main one.
        for innermost in (frame_of_thread(self._watched), self._main.gr_frame):
            frame = innermost
            while frame is not None:
                frames.append(frame)
                frame = frame.f_back
        return frames

    def _report(self, frames: list[FrameType]) -> None:
        job = next((job for frame in frames if (job := _job_of(frame)) is not None), None)
        where = next((frame for frame in frames if _is_users(frame)), None)
        what = "The worker itself" if job is None else job.name
        if where is not None:
            code = where.f_code
            logger.warning(
                "%s has blocked the event loop, and with it all other tasks, for more than %ss: "
                "%s:%d in %s",
                what,
                self._seconds,
                code.co_filename,
                where.f_lineno,
                code.co_qualname,
            )


def _job_of(frame: FrameType) -> CoroutineJob | None:
    if frame.f_code is CoroutineJob.trace.__code__:
        # The first call in a greenlet.
        job: object = frame.f_locals.get("self")
        return job if isinstance(job, CoroutineJob) else None
    context = context_of_callback(frame)
    return None if context is None else job_of(context)


def _is_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return not file.startswith((_OURS, _STDLIB, "<")) and "site-packages" not in file
