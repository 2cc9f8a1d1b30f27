"""What tomskit relies on in Celery beyond its public names: results in databases."""

from celery import Celery
from sqlalchemy.pool import NullPool

from tests.support.contracts import assert_signature, untyped
from tomskit.celery._internals.celery_database import (
    SessionManager,
    are_celerys_sessions,
)


def test_the_sessions_of_a_backend() -> None:
    """`DatabaseBackend.session_manager`, a `SessionManager` with an ``engine_callback``."""
    engines: list[object] = []
    backend = untyped(
        Celery(
            "tests",
            set_as_current=False,
            backend="db+sqlite://",
            changes={
                "database_engine_callback": engines.append,
            },
        ).backend
    )

    assert are_celerys_sessions(backend.session_manager)
    assert backend.session_manager.engine_callback == engines.append


def test_what_makes_sessions() -> None:
    """`SessionManager.get_engine`, `create_session` and `invalidate`."""
    assert_signature(SessionManager, "get_engine", "(self, dburi, **kwargs)")
    assert_signature(
        SessionManager, "create_session", "(self, dburi, short_lived_sessions=False, **kwargs)"
    )
    assert_signature(SessionManager, "invalidate", "(self, dburi)")
    sessions = SessionManager()
    first, second = sessions.get_engine("sqlite://"), sessions.get_engine("sqlite://")
    # With an engine of Celery's for each of them, ours would be needless.
    assert first is not second
    assert isinstance(first.pool, NullPool)
