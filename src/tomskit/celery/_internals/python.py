"""Python: frames, which context asyncio runs a callback in, and what a forked process inherits.

`sys._current_frames`, which Python documents
    For: naming the line that blocks the event loop.
    When it is missing: the watchdog's thread ends with an AttributeError; tasks are not affected.

`threading._SHUTTING_DOWN`
    For: seeing that the program of a worker has ended, and Python waits for its threads.
    When it is missing: a process in which threads of tasks still run does not end.

`asyncio.Handle._run`, the local variable ``self`` of its frame, and `asyncio.Handle._context`
    For: naming the task whose callback blocks the event loop.
    When it is missing: the log says "The worker itself" where it would name that task.

`asyncio.BaseEventLoop._ready`, from whose left the loop takes the callbacks that it calls
    For: ending a process that a task has forked before it runs other tasks.
    When it is missing: such a process runs other tasks of its parent, until the loop is to stop.

`concurrent.futures.thread._threads_queues`, the queue of each thread, and ``run`` of what is in it
    For: the same in a thread, such as that of ``asyncio.to_thread``.
    When it is missing: such a process stays, and may run functions that wait for a thread of its parent.

`gc.get_referents` of a frame, which finds its code only when the frame has ended
    For: telling the coroutines that still run from those that have ended, in a traceback. Up to Python
    3.12 `frame.clear` closes the coroutine of a frame that waits; later ones refuse that.
    When it is missing: a task fails with "cannot reuse already awaited coroutine" if it has caught an
    exception object that another task raises as well.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import thread as executors
from contextvars import Context
from queue import Empty
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = (
    "call_nothing_but",
    "context_of_callback",
    "end_thread_of_executor_with",
    "frame_of_thread",
    "is_closed_by_clearing",
    "leave_out_others",
    "program_waits_for_threads",
)

_OF_COROUTINES: Final = (
    inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_GENERATOR
    | inspect.CO_ASYNC_GENERATOR
)
_CLOSES_COROUTINES: Final = sys.version_info < (3, 13)
_COLLECTS_AT_ANY_TIME: Final = sys.version_info < (3, 12)
_looking: Final = threading.Lock()


def frame_of_thread(ident: int) -> FrameType | None:
    """The innermost frame of a thread."""
    if not _COLLECTS_AT_ANY_TIME:
        return sys._current_frames().get(ident)
    # Up to Python 3.11.8 it can collect garbage while it has the lock of all threads. What runs then, such as
    # a __del__, may let another thread go on, and if that starts or ends a thread or asks the same, each waits
    # for what the other has: the whole process stands still for ever.
    with _looking:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(ident)
        finally:
            if collects:
                gc.enable()


if _COLLECTS_AT_ANY_TIME:
    # A process that is forked meanwhile would have the lock, and no collector, for ever.
    os.register_at_fork(
        before=_looking.acquire, after_in_parent=_looking.release, after_in_child=_looking.release
    )


def program_waits_for_threads() -> bool:
    """Whether the main thread has left the program, and waits for other threads.

    First for those of executors, then for those that are no daemons.
    """
    main = threading.main_thread()
    return bool(vars(threading)["_SHUTTING_DOWN"]) and (
        main.is_alive() or any(not one.daemon for one in threading.enumerate() if one is not main)
    )


def context_of_callback(frame: FrameType) -> Context | None:
    """The context in which asyncio runs a callback, if this is the frame in which it does."""
    code = frame.f_code
    if code.co_name != "_run" or not code.co_filename.endswith("asyncio/events.py"):
        return None
    context: object = getattr(frame.f_locals.get("self"), "_context", None)
    return context if isinstance(context, Context) else None


def is_closed_by_clearing(frame: FrameType) -> bool:
    """Whether this is the frame of a coroutine that has not ended, and ``frame.clear()`` would end it."""
    code = frame.f_code
    if not _CLOSES_COROUTINES or not code.co_flags & _OF_COROUTINES:
        return False
    return all(found is not code for found in gc.get_referents(frame))


def leave_out_others(error: BaseException | None) -> None:
    """Take the frames of coroutines that still run out of the traceback of an error.

    Tasks that await the same future raise the same exception object, and its traceback has the frames
    of whoever has raised it last. Celery clears the frames of a task that has failed, and that would
    close the coroutine of another one, which has caught the exception and goes on.
    """
    entries: list[TracebackType] = []
    entry = None if error is None else error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    mine = [entry for entry in entries if not is_closed_by_clearing(entry.tb_frame)]
    if error is None or len(mine) == len(entries):
        return
    rest: TracebackType | None = None
    for entry in reversed(mine):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    # Not the attribute: its class may refuse to set any.
    BaseException.with_traceback(error, rest)


def call_nothing_but(
    loop: asyncio.AbstractEventLoop, function: Callable[[], object]
) -> list[object]:
    """Let a loop call a function next, in place of the callbacks that are ready; returns these."""
    ready: Any = getattr(loop, "_ready", None)
    if ready is None:
        return []
    kept = list(ready)
    ready.clear()
    loop.call_soon(function)
    return kept


class _LastItem:
    """What a thread of a ThreadPoolExecutor calls last."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def run(self, *_: object) -> None:
        self.function()


def end_thread_of_executor_with(function: Callable[[], object]) -> list[object]:
    """Let the calling thread, if it is one of a ThreadPoolExecutor, call a function next.

    Returns:
        What it would have called.
    """
    queues: Any = getattr(executors, "_threads_queues", {})
    queue = queues.get(threading.current_thread())
    kept: list[object] = []
    if queue is not None:
        try:
            while True:
                kept.append(queue.get_nowait())
        except Empty:
            queue.put(_LastItem(function))
    return kept
