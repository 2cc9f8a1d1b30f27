"""Results in a database: connections are kept, and used again.

Celery makes an engine and a connection for each state that it reads or stores, except in the processes of prefork.
PyMySQL loads the certificates of the system each time, which takes some 30 ms in which no other thread runs: with
eight threads that store results the event loop beside them stood still for a second.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary, finalize

from celery import Celery
from sqlalchemy import Engine, QueuePool, create_engine, event
from sqlalchemy.orm import sessionmaker
from typing_extensions import override

from tomskit.celery._internals.celery_database import (
    SessionManager,
    has_celerys_sessions,
    is_database_backend,
)

__all__ = ("KeptSessions", "close_sessions", "keep_sessions")

_KEPT: Final = 8
"""How many connections of a process stay open, whatever number of threads stores results."""

_TURN_SECONDS: Final = 0.5
"""How long a thread waits for another one that connects. What takes longer waits for a server."""


class KeptSessions(SessionManager):
    """Celery's, which keeps an engine for each database and process; for all threads of an app."""

    def __init__(self, engine_callback: Callable[[Engine], object] | None = None) -> None:
        super().__init__(engine_callback)
        # A forked process has those of its parent as well, and must not even close them.
        self._of_process: Final[dict[tuple[int, str], Engine]] = {}
        self._connecting = threading.Lock()
        # Otherwise a server would log connections that were not closed.
        finalize(self, _dispose, self._of_process)

    @override
    def get_engine(self, dburi: str, **kwargs: Any) -> Engine:
        key = os.getpid(), dburi
        engine = self._of_process.get(key)
        if engine is None:
            made = create_engine(dburi, **kwargs)
            if type(made.pool) is QueuePool:
                # As Celery, which connects as often as there are threads. What the application has set has
                # the last word.
                made = create_engine(dburi, **{"pool_size": _KEPT, "max_overflow": -1, **kwargs})
            event.listen(made, "do_connect", self._connect)
            # Nothing is connected yet: of two threads, one drops what it has made.
            engine = self._of_process.setdefault(key, made)
            if engine is made and self.engine_callback is not None:
                self.engine_callback(engine)
        return engine

    def _connect(self, dialect: Any, _: object, args: Any, options: Any) -> object:
        """Connect one after the other, so that other threads run in between, such as that of an event loop."""
        is_my_turn = self._connecting.acquire(timeout=_TURN_SECONDS)
        try:
            return dialect.connect(*args, **options)
        finally:
            if is_my_turn:
                self._connecting.release()

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

    def close(self) -> None:
        """Close the connections that nobody uses."""
        _dispose(self._of_process)


_of_apps: Final[WeakKeyDictionary[Celery, KeptSessions]] = WeakKeyDictionary()


def keep_sessions(app: Celery, backend: object) -> None:
    """Let a backend of `app` keep its connections, if it has a database."""
    # The sessions of another package may have their reasons.
    if is_database_backend(backend) and has_celerys_sessions(backend):
        callback = backend.session_manager.engine_callback
        backend.session_manager = _of_apps.setdefault(app, KeptSessions(callback))


def close_sessions(backend: object) -> None:
    """Close the connections of a backend that nobody uses, if it has a database."""
    if is_database_backend(backend) and isinstance(backend.session_manager, KeptSessions):
        backend.session_manager.close()


def _dispose(engines: dict[tuple[int, str], Engine]) -> None:
    for process, dburi in list(engines):
        if process == os.getpid():
            engines.pop((process, dburi)).dispose()
