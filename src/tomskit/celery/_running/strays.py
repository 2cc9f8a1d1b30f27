"""Strays: processes that a task has forked, and that come back from it into the worker.

A process that is forked in a task has a copy of all that the worker has in memory: its event loop, the tasks
in it, the messages that it holds. Where the code that has forked does not end it, such as by
``os._exit``, it returns into the copy, and would run, acknowledge and store what its parent does. It ends here
instead, before any of that: where a step of its coroutine, its event loop or its function returns, whichever
comes first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Final, Never, TextIO

from tomskit.celery._internals.python import call_nothing_but, end_thread_of_executor_with

__all__ = ("lineage", "watched")

logger: Final = logging.getLogger(__name__)

_LAST_SECONDS: Final = 5
"""How long the last words of such a process may take. A thread of its parent may have held a lock of a stream."""


class _Lineage:
    """Tells a process from the one that it was forked from.

    Attributes:
        here: Another object in each process.
    """

    __slots__ = ("_kept", "here")

    def __init__(self) -> None:
        self.here = object()
        self._kept: list[object] = []

    def end(self) -> Never:
        """End this process, which has returned from code that was called in its parent."""
        error = sys.exception()
        code = error.code if isinstance(error, SystemExit) else 1
        with suppress(Exception):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LAST_SECONDS)
        with suppress(Exception):
            logger.critical(
                "Process %d, which a task forked, returned from the code that forked it, and ends. The task goes "
                "on in its parent, process %d. End such a process with os._exit(), or use multiprocessing or "
                "subprocess.",
                os.getpid(),
                os.getppid(),
                exc_info=None if isinstance(error, SystemExit) else error,
            )
        streams: tuple[TextIO | None, ...] = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
        for stream in streams:
            with suppress(Exception):
                if stream is not None:
                    stream.flush()
        os._exit(code if isinstance(code, int) else code is not None)

    def on_forked(self) -> None:
        """Begin another process."""
        self.here = object()
        loop = _here.loop
        if loop is not None:
            # The callbacks that are ready are those of other tasks. They are kept: their destructors would
            # end these here.
            self._kept.append(call_nothing_but(loop, self.end))
        elif _here.loops_ran:
            self._kept.append(end_thread_of_executor_with(self.end))


class _Here(threading.local):
    loop: asyncio.AbstractEventLoop | None = None
    loops_ran = False


_here: Final = _Here()
lineage: Final = _Lineage()
os.register_at_fork(after_in_child=lineage.on_forked)


class watched:  # noqa: N801 (used as a context manager)
    """Watches the code in an ``with`` block that runs an event loop: no forked process leaves the block."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._lineage = lineage.here
        self._outer, _here.loop = _here.loop, self._loop
        _Here.loops_ran = True

    def __exit__(self, *_: object) -> None:
        _here.loop = self._outer
        if lineage.here is not self._lineage:
            lineage.end()
