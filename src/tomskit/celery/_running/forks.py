"""Locks in a process that is forked while its threads run: no thread holds one when it is forked.

A forked process has a copy of every lock, held if a thread held it, and no thread that would let it go. kombu's
`cached_property` has one lock for all objects of a class, and Python one for each module that is imported: a
process that is forked while a thread looks up its result backend waits for ever when it looks up its own, before
its first task. So a fork waits for what threads do here, if that is short; what a thread may hold all the same
is free in the new process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from tomskit.celery._internals.inherited import renew_locks
from tomskit.living import LivingSet

__all__ = ("ForkLock", "between_forks", "may_fork")

_PATIENCE_SECONDS: Final = 1.0
"""How long a fork waits. What takes longer waits for a server, and has no lock that others need."""
_WITHOUT_END: Final = -1.0


class ForkLock:
    """A lock that is free in a process that was forked, but for one that the forking thread has itself.

    The thread that has it may take it again.

    Args:
        is_brief: Whether no thread has it for long: a fork waits for it, so that what it protects is whole in
            the new process. Else the process is forked whoever has it.
    """

    def __init__(self, *, is_brief: bool) -> None:
        self.is_brief: bool = is_brief
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def take(self, seconds: float) -> bool:
        """Wait for it, so long; whether it was taken."""
        return self._lock.acquire(timeout=seconds)

    def give(self) -> None:
        """Give it back."""
        self._lock.release()

    def renew(self) -> None:
        """Be free, in a process that was forked while another thread had it."""
        self._lock = threading.RLock()


class _Forking(threading.local):
    """What a thread has when it forks."""

    def __init__(self) -> None:
        self.taken: list[ForkLock] = []
        self.has_others = False


_locks: Final[LivingSet[ForkLock]] = LivingSet()
_here: Final = _Forking()
_between: Final = ForkLock(is_brief=True)


@contextmanager
def between_forks() -> Generator[None]:
    """Let this process fork before what is done in this context, or after it.

    It is short, such as an attempt to reach a server: a fork waits for a second at most. Threads do such
    things one at a time.
    """
    with _between:
        yield


@contextmanager
def may_fork() -> Generator[None]:
    """Let this process fork meanwhile, in the middle of such a context."""
    _between.give()
    try:
        yield
    finally:
        _between.take(_WITHOUT_END)


def _before() -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    _here.has_others = threading.active_count() > 1
    _here.taken = [
        lock
        for lock in _locks
        if lock.take(max(until - time.monotonic(), 0) if lock.is_brief else 0)
    ]


def _after_in_parent() -> None:
    while _here.taken:
        _here.taken.pop().give()


def _after_in_child() -> None:
    free = list(_here.taken)
    _after_in_parent()
    if _here.has_others:
        renew_locks()
        for lock in _locks:
            if lock not in free:
                lock.renew()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
