"""Celery: the result backend for databases, which celery-types knows in an older version.

`DatabaseBackend.session_manager`, a `SessionManager`, and its ``engine_callback``
    For: connections to results in a database that a worker uses again.
    When it is missing: storing a result in a database raises AttributeError.

`SessionManager.get_engine`, `create_session` and `invalidate`
    For: the same.
    When it is missing: such a worker connects for each state that it stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.backends.database import session

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ("SessionManager", "are_celerys_sessions")


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

else:
    SessionManager = session.SessionManager


def are_celerys_sessions(sessions: object) -> bool:
    """Whether the sessions of a backend are Celery's own, and no subclass."""
    return type(sessions) is SessionManager
