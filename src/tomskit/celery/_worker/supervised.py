"""What a worker does for the supervisor that started it: ``celery -A app workers``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ("READY_VARIABLE", "SUPERVISOR_VARIABLE", "end_with_supervisor", "tell_ready")

SUPERVISOR_VARIABLE: Final = "TOMSKIT_SUPERVISOR"
"""Environment variable: the process id of the supervisor of this worker."""

READY_VARIABLE: Final = "TOMSKIT_READY_PIPE"
"""Environment variable: the descriptor of a pipe that the supervisor reads."""

_PR_SET_PDEATHSIG: Final = 1


def end_with_supervisor() -> None:
    """Have the system send SIGTERM to this worker when its supervisor has died (on Linux).

    The supervisor may be killed by SIGKILL. Started again, it would find its old workers beside the
    new ones, with the same names.
    """
    supervisor = os.environ.pop(SUPERVISOR_VARIABLE, None)
    if supervisor is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if str(os.getppid()) != supervisor:  # it died before that
        os.kill(os.getpid(), signal.SIGTERM)


def tell_ready() -> None:
    """Tell the supervisor that this worker can run tasks."""
    pipe = os.environ.pop(READY_VARIABLE, None)
    if pipe is None:
        return
    try:
        os.write(int(pipe), b"ready")
        os.close(int(pipe))
    except OSError:  # the supervisor is gone
        return
