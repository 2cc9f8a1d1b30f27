"""Which errors mean that a database is away, or that a transaction has lost against another one."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError

__all__ = ("has_conflict", "is_away")

_AWAY_IN_MYSQL: Final = frozenset({1040, 1053, 1152, 1158, 1159, 1160, 1161, 1927})
"""Too many connections, shutdown, aborted connection, network errors, killed connection."""
_CLIENT_ERRORS_OF_MYSQL: Final = range(2000, 2070)
_CONFLICTS_IN_MYSQL: Final = frozenset({1205, 1213})
"""A lock that was waited for too long, and a deadlock."""
_AWAY_IN_POSTGRES: Final = frozenset({"53300", "57P01", "57P02", "57P03"})
"""Too many connections, shutdown by an administrator or a crash, not yet started."""
_CONFLICTS_IN_POSTGRES: Final = frozenset({"40001", "40P01", "55P03"})
"""A serialization failure, a deadlock, and a lock that was not available."""


def is_away(error: BaseException) -> bool:
    """Whether an error of a statement means that the database cannot be reached, or not now."""
    if not isinstance(error, DBAPIError):
        # asyncpg raises those of the system where it cannot connect.
        return isinstance(error, (ConnectionError, TimeoutError))
    if error.connection_invalidated:
        return True
    number, state = _codes(error)
    if number is not None:
        return number in _AWAY_IN_MYSQL or number in _CLIENT_ERRORS_OF_MYSQL
    if state is not None:
        return state in _AWAY_IN_POSTGRES or state.startswith("08")
    # psycopg has no state to tell where it could not connect.
    module = type(error.orig).__module__
    return module.startswith("psycopg") and type(error.orig).__name__ == "OperationalError"


def has_conflict(error: BaseException) -> bool:
    """Whether a transaction was rolled back because of another one, and may succeed when repeated."""
    if not isinstance(error, DBAPIError):
        return False
    number, state = _codes(error)
    if number is not None:
        return number in _CONFLICTS_IN_MYSQL
    if state is not None:
        return state in _CONFLICTS_IN_POSTGRES
    return "database is locked" in str(error.orig)


def _codes(error: DBAPIError) -> tuple[int | None, str | None]:
    """The number that MySQL gives an error, or the five characters that PostgreSQL does."""
    state: object = getattr(error.orig, "sqlstate", None)
    if isinstance(state, str):
        return None, state
    arguments: tuple[object, ...] = () if error.orig is None else error.orig.args
    match arguments:
        case (int() as number, *_):
            return number, None
        case _:
            return None, None
