"""Watchdog: names the task that blocks the event loop, and the line it is at."""

from __future__ import annotations

import sys
import threading
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from celery.utils.log import get_logger
from greenlet import getcurrent

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
    """Watches from a thread whether the event loop goes on.

    Args:
        hub: The worker's loop.
        seconds: How long a task may block the loop before it is named; 0 or less is for ever.
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
        """Begin to watch the thread that calls this, which is the loop's."""
        if self._seconds > 0:
            self._watched = threading.get_ident()
            self._main = getcurrent()
            self._beat()
            self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
            self._thread.join()

    def _beat(self) -> None:
        self._beats += 1
        self._timer = self._hub.asyncio_loop.call_later(self._seconds / _QUARTERS, self._beat)

    def _watch(self) -> None:
        seen, since, told = 0, 0, False
        while not self._stopped.wait(self._seconds / _QUARTERS):
            if self._beats != seen:
                seen, since, told = self._beats, 0, False
                continue
            since += 1
            # So many quarters without a beat: the loop has not run for that long.
            if since > _QUARTERS and not told:
                told = True
                self._tell(self._stack())

    def _stack(self) -> list[FrameType]:
        """What the loop's thread is at, the innermost first."""
        frames: list[FrameType] = []
        # In a greenlet the stack begins with the greenlet. Who has switched to it, such as asyncio
        # with its callback, is on the main one's.
        here = sys._current_frames().get(self._watched)  # noqa: SLF001 (documented)
        for innermost in (here, self._main.gr_frame):
            frame = innermost
            while frame is not None:
                frames.append(frame)
                frame = frame.f_back
        return frames

    def _tell(self, frames: list[FrameType]) -> None:
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
    # asyncio's own callbacks hold the context that they run in, that of a task and its children.
    if frame.f_code.co_name == "_run" and frame.f_code.co_filename.endswith("asyncio/events.py"):
        context: object = getattr(frame.f_locals.get("self"), "_context", None)
        if isinstance(context, Context):
            return job_of(context)
    return None


def _is_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return not file.startswith((_OURS, _STDLIB, "<")) and "site-packages" not in file
