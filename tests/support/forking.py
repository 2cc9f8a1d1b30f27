"""Processes that a test forks."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from tests.support.patience import patience, wait_until

__all__ = ("in_child",)


def in_child(work: Callable[[], object]) -> None:
    """Fork a process that does `work`; fails if that raises, or has not ended in time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # What hangs shows where.
            faulthandler.dump_traceback_later(patience(8), exit=True, file=_stderr())
            work()
            code = 0
        except BaseException:  # noqa: BLE001 (the test's process goes on elsewhere)
            traceback.print_exc(file=_stderr())
        finally:
            os._exit(code)
    ended: list[int] = []

    def has_ended() -> bool:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(ended)

    try:
        wait_until(has_ended, patience(10), "the forked process does not end")
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert ended == [0]


def _stderr() -> TextIO:
    # pytest has taken sys.stderr, and nobody would read it here.
    assert sys.__stderr__ is not None
    return sys.__stderr__
