"""Results in MySQL or MariaDB: a worker keeps its connections, and uses them again.

Celery makes an engine and a connection for each state that it stores, except in the processes of prefork. PyMySQL
loads the certificates of the system each time, which takes some 30 ms in which no other thread runs: with eight
threads that store 200 results at once the event loop beside them stood still for 0.2 s.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary, finalize

from celery import Celery
from sqlalchemy import Engine, QueuePool, create_engine
from sqlalchemy.orm import sessionmaker
from typing_extensions import override

from tomskit.celery._internals.celery_database import SessionManager

__all__ = ("kept_sessions",)

_KEPT: Final = 8
"""How many connections of a process stay open, whatever number of threads stores results."""


class _KeptSessions(SessionManager):
    """Celery's, which keeps an engine for each database and process; for all threads of an app."""

    def __init__(self, engine_callback: Callable[[Engine], object] | None) -> None:
        super().__init__(engine_callback)
        # A forked process has those of its parent as well, and must not even close them.
        self._of_process: Final[dict[tuple[int, str], Engine]] = {}
        # Otherwise a server would log connections that were not closed.
        finalize(self, _dispose, self._of_process)

    @override
    def get_engine(self, dburi: str, **kwargs: Any) -> Engine:
        key = os.getpid(), dburi
        engine = self._of_process.get(key)
        if engine is None:
            if kwargs.get("poolclass", QueuePool) is QueuePool:
                # As Celery, which connects as often as there are threads. What the application has set has
                # the last word.
                kwargs = {"pool_size": _KEPT, "max_overflow": -1, **kwargs}
            made = create_engine(dburi, **kwargs)
            if self.engine_callback is not None:
                self.engine_callback(made)
            # Nothing is connected yet: of two threads, one drops what it has made.
            engine = self._of_process.setdefault(key, made)
        return engine

    @override
    def create_session(
        self, dburi: str, short_lived_sessions: bool = False, **kwargs: Any
    ) -> tuple[Engine, Any]:
        engine = self.get_engine(dburi, **kwargs)
        return engine, sessionmaker(bind=engine)

    @override
    def invalidate(self, dburi: str) -> None:
        engine = self._of_process.pop((os.getpid(), dburi), None)
        if engine is not None:
            engine.dispose()


_of_apps: Final[WeakKeyDictionary[Celery, _KeptSessions]] = WeakKeyDictionary()


def kept_sessions(
    app: Celery, engine_callback: Callable[[Engine], object] | None
) -> SessionManager:
    """Those of an app, which keep their connections."""
    return _of_apps.setdefault(app, _KeptSessions(engine_callback))


def _dispose(engines: dict[tuple[int, str], Engine]) -> None:
    for process, dburi in list(engines):
        if process == os.getpid():
            engines.pop((process, dburi)).dispose()
