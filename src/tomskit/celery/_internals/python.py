"""Python: which frame a thread is in, and which context asyncio runs a callback in.

`sys._current_frames`, which Python documents
    For: naming the line that blocks the event loop.
    When it is missing: the watchdog's thread ends with an AttributeError; tasks are not affected.

`asyncio.Handle._run`, the local variable ``self`` of its frame, and `asyncio.Handle._context`
    For: naming the task whose callback blocks the event loop.
    When it is missing: the log says "The worker itself" where it would name that task.
"""

from __future__ import annotations

import sys
from contextvars import Context
from types import FrameType

__all__ = ("context_of_callback", "frame_of_thread")


def frame_of_thread(ident: int) -> FrameType | None:
    """The innermost frame of a thread."""
    return sys._current_frames().get(ident)


def context_of_callback(frame: FrameType) -> Context | None:
    """The context in which asyncio runs a callback, if this is the frame in which it does."""
    code = frame.f_code
    if code.co_name != "_run" or not code.co_filename.endswith("asyncio/events.py"):
        return None
    context: object = getattr(frame.f_locals.get("self"), "_context", None)
    return context if isinstance(context, Context) else None
