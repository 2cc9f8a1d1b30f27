"""Threads beside a pool of processes: what they do is over when the worker forks.

A forked process has a copy of every lock, held if a thread held it, and no thread that would let it go. kombu's
`cached_property` has one lock for all objects of a class, and Python one for each module that is imported: a
process that is forked while a thread looks up its result backend waits for ever when it looks up its own, before
its first task.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

__all__ = ("between_forks", "may_fork")

_PATIENCE_SECONDS: Final = 1.0
"""How long a fork waits. What takes longer waits for a server, and has no lock that others need."""


class _Forks:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._has_waited = False

    @contextmanager
    def between(self) -> Generator[None]:
        """Let this process fork before what is done in this context, or after it.

        It is short, such as an attempt to reach a server: a fork waits for a second at most. Threads do such
        things one at a time.
        """
        with self._lock:
            yield

    @contextmanager
    def allowed(self) -> Generator[None]:
        """Let this process fork meanwhile, in the middle of such a context."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def before(self) -> None:
        self._has_waited = self._lock.acquire(timeout=_PATIENCE_SECONDS)

    def after_in_parent(self) -> None:
        if self._has_waited:
            self._lock.release()

    def after_in_child(self) -> None:
        self._lock = threading.RLock()


_forks: Final = _Forks()
os.register_at_fork(
    before=_forks.before,
    after_in_parent=_forks.after_in_parent,
    after_in_child=_forks.after_in_child,
)
between_forks: Final = _forks.between
may_fork: Final = _forks.allowed
