"""Threads that tasks have left behind: they do not keep the process of a worker that has stopped."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from tomskit.celery._internals.python import program_waits_for_threads
from tomskit.celery._running.guard import CLEANUP_SECONDS

if TYPE_CHECKING:
    from tomskit.celery._internals.celery_worker import Worker

__all__ = ("end_without_threads",)

logger: Final = logging.getLogger(__name__)

_OURS: Final = "tomskit-"

_SLICE_SECONDS: Final = 0.1
"""How often it is looked at."""


class _Newest:
    """The thread that watches the end of this process: of several workers the last one's."""

    thread: threading.Thread | None = None


def end_without_threads(worker: Worker) -> None:
    """Let the process of a worker that has stopped end, whatever its other threads do.

    Python waits for threads at its end, without limit. One in which a task has called what blocks for
    ever, by ``asyncio.to_thread`` for instance, would keep the process. Called in the main thread.
    """
    left = frozenset(threading.enumerate())
    _Newest.thread = threading.Thread(
        target=_end, args=(worker, left), name="tomskit-last-threads", daemon=True
    )
    _Newest.thread.start()


def _end(worker: Worker, left: frozenset[threading.Thread]) -> None:
    # A program that runs a worker may go on after it, start threads of its own, and run another worker.
    ended_at: float | None = None
    while ended_at is None or time.monotonic() - ended_at < CLEANUP_SECONDS:
        time.sleep(_SLICE_SECONDS)
        if _Newest.thread is not threading.current_thread():
            return
        if not program_waits_for_threads() or any(
            not one.daemon for one in threading.enumerate() if one not in left
        ):
            ended_at = None
        elif ended_at is None:
            ended_at = time.monotonic()
    running = [
        one.name
        for one in left - {threading.main_thread()}
        if one.is_alive() and not one.name.startswith(_OURS)
    ]
    logger.warning(
        "The process ends although threads still run, %g s after the worker has stopped: %s. No time "
        "limit interrupts a function that a task calls in a thread: give what it waits for a time-out.",
        CLEANUP_SECONDS,
        ", ".join(sorted(running)),
    )
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(worker.exitcode or 0)
