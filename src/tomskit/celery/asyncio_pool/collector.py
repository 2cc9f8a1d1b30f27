"""Collector: Python's search for reference cycles, made rare while a worker runs tasks.

A collection visits every living object, and thousands of tasks have many: with Python's own settings
collections took a fifth of a worker's time, in pauses of 100 ms (measured with 12,000 empty tasks,
1000 at once). A task of this pool leaves no cycles, so there is little to find.

Code of tasks may leave some, and few objects may hold much memory: an HTTP client that is dropped is a
cycle with a TLS context of half a megabyte. So it is also looked when the process has grown. Memory that is freed
need not go back to the system, and the process then grows no more until as much garbage lies in it: so it is looked
as well when there are as many more objects as there were when that was last worth its time.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Final

__all__ = ("Collector",)

_THRESHOLD: Final = 20_000
"""Allocations between collections. With 12,000 tasks there were 21 collections of the youngest objects
in place of 1810, and 1 of all objects in place of 15; the peak of memory was the same."""


_PAUSE: Final = 0.02
"""Seconds between two looks at the size of the process; one takes some microseconds."""

_GROWTH: Final = 4 * 1024 * 1024
"""Bytes by which a process grows between collections, at least."""

_MOST_GROWTH: Final = 16 * _GROWTH
"""The same where collections find nothing, as when many tasks wait. Each doubles it."""

_SOME: Final = 100
"""Objects that a collection finds when it was worth its time; a task leaves none."""


class Collector:
    """Makes collections rare from `relax` to `restore`."""

    def __init__(self) -> None:
        self._thresholds: tuple[int, int, int] | None = None
        self._relaxed: int | None = None
        self._next_look = 0.0
        self._size = 0
        self._growth = _GROWTH
        self._objects: int | None = None

    def relax(self) -> None:
        """Collect more rarely, and never the objects that exist now, which are mostly modules.

        A collector that was turned off, or set to be rarer still, is left so.
        """
        self._thresholds = first, second, third = gc.get_threshold()
        gc.collect()
        gc.freeze()
        if first:
            self._relaxed = max(first, _THRESHOLD)
            gc.set_threshold(self._relaxed, second, third)
            self._size = _resident_bytes()

    def look(self) -> None:
        """Collect if the process has grown; called when tasks have ended."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _PAUSE
        # A threshold of the user's own is to be what it is.
        if self._size and gc.get_threshold()[0] == self._relaxed:
            self._collect_if_grown(_resident_bytes())

    def _collect_if_grown(self, size: int) -> None:
        # Made since the last collection, less those that are gone again.
        objects, *_ = gc.get_count()
        has_as_many = self._objects is not None and objects >= self._objects
        if size - self._size < self._growth and not has_as_many:
            self._size = min(self._size, size)
            return
        found = gc.collect()
        if found < _SOME:
            self._growth = min(2 * self._growth, _MOST_GROWTH)
            self._objects = None
        else:
            self._growth = _GROWTH
            self._objects = objects if self._objects is None else min(self._objects, objects)
        self._size = _resident_bytes()

    def restore(self) -> None:
        """Undo `relax`."""
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
            self._thresholds = self._relaxed = None


def _resident_bytes() -> int:
    """The memory that this process has; 0 where the system does not tell it in this way."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 (a third of the time)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
