"""Which errors mean that a database is away, or that a transaction has lost against another one."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError

__all__ = ("has_conflict", "has_undone", "is_away", "is_of_database")

_DRIVERS: Final = frozenset({"aiomysql", "asyncpg", "psycopg", "pymysql", "sqlite3"})

_AWAY_IN_MYSQL: Final = frozenset({1040, 1047, 1053, 1152, 1158, 1159, 1160, 1161, 1927})
"""Too many connections, a node that is no part of its cluster, shutdown, aborted connection, network errors, killed connection."""
_CLIENT_ERRORS_OF_MYSQL: Final = range(2000, 2070)
_DEADLOCK_IN_MYSQL: Final = 1213
_CONFLICTS_IN_MYSQL: Final = frozenset({1020, 1205, _DEADLOCK_IN_MYSQL})
"""A row that has changed since the transaction's snapshot, a lock that was waited for too long, and a
deadlock."""
_AWAY_IN_POSTGRES: Final = frozenset({"53300", "57P01", "57P02", "57P03"})
"""Too many connections, shutdown by an administrator or a crash, not yet started."""
_CONFLICTS_IN_POSTGRES: Final = frozenset({"40001", "40P01", "55P03"})
"""A serialization failure, a deadlock, and a lock that was not available."""


def is_away(error: BaseException) -> bool:
    """Whether an error of a statement means that the database cannot be reached, or not now."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    original = _original(error)
    if original is None:
        # asyncpg raises those of the system where it cannot connect.
        return isinstance(error, (ConnectionError, TimeoutError))
    number, state = _codes(original)
    if number is not None:
        return number in _AWAY_IN_MYSQL or number in _CLIENT_ERRORS_OF_MYSQL
    if state is not None:
        return state in _AWAY_IN_POSTGRES or state.startswith("08")
    name = type(original).__name__
    # psycopg has no state to tell where it could not connect, and asyncpg none for a closed connection.
    return (name == "OperationalError" and _driver(original) == "psycopg") or (
        name in {"InterfaceError", "InternalClientError"} and "clos" in str(original)
    )


def has_conflict(error: BaseException) -> bool:
    """Whether a transaction was rolled back because of another one, and may succeed when repeated."""
    original = _original(error)
    if original is None:
        return False
    number, state = _codes(original)
    if number is not None:
        return number in _CONFLICTS_IN_MYSQL
    if state is not None:
        return state in _CONFLICTS_IN_POSTGRES
    return "database is locked" in str(original)


def has_undone(error: BaseException) -> bool:
    """Whether the server has rolled back the whole transaction, and executes what comes next all the same.

    PostgreSQL refuses further statements; MySQL begins another transaction.
    """
    original = _original(error)
    return original is not None and _codes(original)[0] == _DEADLOCK_IN_MYSQL


def is_of_database(error: BaseException) -> bool:
    """Whether an error was raised by SQLAlchemy or a driver, and not by another client."""
    if _original(error) is not None:
        return True
    traceback = error.__traceback__
    while traceback is not None:
        if str(traceback.tb_frame.f_globals.get("__name__")).startswith("sqlalchemy."):
            return True
        traceback = traceback.tb_next
    return False


def _original(error: BaseException) -> BaseException | None:
    """The error of the driver, which SQLAlchemy does not always wrap."""
    if isinstance(error, DBAPIError):
        return error.orig
    return error if _driver(error) in _DRIVERS else None


def _driver(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _codes(original: BaseException) -> tuple[int | None, str | None]:
    """The number that MySQL gives an error, or the five characters that PostgreSQL does."""
    match original.args:
        # PyMySQL 1.2 has both, and HY000 for most of them.
        case (int() as number, *_):
            return number, None
        case _:
            state: object = getattr(original, "sqlstate", None)
            return None, state if isinstance(state, str) else None
