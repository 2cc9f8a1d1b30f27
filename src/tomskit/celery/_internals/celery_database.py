"""Celery: the result backend for databases, which celery-types knows in an older version.

`DatabaseBackend.session_manager`, a `SessionManager`, and its ``engine_callback``
    For: connections to results in a database that are used again.
    When it is missing: making an AsyncCelery's backend for a database raises AttributeError.

`SessionManager.get_engine`, `create_session` and `invalidate`
    For: the same.
    When it is missing: such a worker connects for each state that it stores, and so does who waits for a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from celery.backends.database import DatabaseBackend as CelerysBackend
from celery.backends.database import session

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ("DatabaseBackend", "SessionManager", "has_celerys_sessions", "is_database_backend")


if TYPE_CHECKING:

    class SessionManager:
        """``celery.backends.database.session.SessionManager``."""

        engine_callback: Callable[[Engine], object] | None

        def __init__(self, engine_callback: Callable[[Engine], object] | None = None) -> None: ...
        def get_engine(self, dburi: str, **kwargs: Any) -> Engine: ...
        def create_session(
            self, dburi: str, short_lived_sessions: bool = False, **kwargs: Any
        ) -> tuple[Engine, Any]: ...
        def invalidate(self, dburi: str) -> None: ...

    class DatabaseBackend:
        """``celery.backends.database.DatabaseBackend``."""

        session_manager: SessionManager

else:
    SessionManager = session.SessionManager
    DatabaseBackend = CelerysBackend


def is_database_backend(backend: object) -> TypeGuard[DatabaseBackend]:
    """Whether this is Celery's own backend for databases, or a subclass."""
    return isinstance(backend, CelerysBackend)


def has_celerys_sessions(backend: DatabaseBackend) -> bool:
    """Whether the sessions of a backend are Celery's own."""
    return type(backend.session_manager) is SessionManager
