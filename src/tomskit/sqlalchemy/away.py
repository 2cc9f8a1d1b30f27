"""Which errors mean that a database is away, or that a transaction has lost against another one."""

from __future__ import annotations

from ssl import SSLCertVerificationError
from typing import Final

from sqlalchemy.exc import DBAPIError, InvalidRequestError

__all__ = (
    "has_conflict",
    "has_timed_out",
    "has_undone",
    "is_away",
    "is_lost",
    "is_missing_table",
    "is_of_database",
    "is_read_only",
    "is_refused_after_another",
)

_DRIVERS: Final = frozenset({"aiomysql", "asyncpg", "psycopg", "pymysql", "sqlite3"})

_AWAY_IN_MYSQL: Final = frozenset({1040, 1047, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1927})
"""Too many connections, a node that is no part of its cluster, shutdown, aborted connection, network errors,
too many connections of a user, killed connection."""
_READ_ONLY_IN_MYSQL: Final = 1836
_OPTION_OF_MYSQL: Final = 1290
"""The server's options do not allow a statement. Of these, --read-only and its like are set when another server is to
take the place of this one."""
_CLIENT_ERRORS_OF_MYSQL: Final = range(2000, 2070)
_UNDONE_IN_MYSQL: Final = frozenset({1020, 1206, 1213, 3101})
"""A row that has changed since the transaction's snapshot, too many locks, a deadlock, and a transaction that the
other servers of its group have refused."""
_LOCK_TIMEOUT_IN_MYSQL: Final = 1205
_CONFLICTS_IN_MYSQL: Final = frozenset({1020, 1213, 3101, 3572, _LOCK_TIMEOUT_IN_MYSQL})
"""Also a lock that was not free at once, where a statement says NOWAIT."""
_NO_SAVEPOINT_IN_MYSQL: Final = 1305
_READ_ONLY_IN_POSTGRES: Final = "25006"
_AWAY_IN_POSTGRES: Final = frozenset({"25P03", "53300", "57P01", "57P02", "57P03", "57P05"})
"""A connection that was idle in a transaction for too long, too many connections, shutdown by an
administrator or a crash, not yet started, a connection that was idle for too long."""
_AFTER_LAST_MESSAGE: Final = "another operation (2) is in progress"
"""What asyncpg says of a statement when the server has said, unasked, that it ends the connection, and the end itself
has not arrived: the operation of this number is to read what follows an error."""
_ABORTED_IN_POSTGRES: Final = "25P02"
_CONFLICTS_IN_POSTGRES: Final = frozenset({"40001", "40P01", "55P03"})
"""A serialization failure, a deadlock, and a lock that was not available."""


def is_away(error: BaseException) -> bool:
    """Whether an error of a statement means that the database cannot be reached, or not now."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    original = _original(error)
    if original is None:
        # asyncpg raises those of the system where it cannot connect: no route, a name that is not known
        # now, or several of them where a host has several addresses.
        return isinstance(error, OSError) and not isinstance(error, SSLCertVerificationError)
    number, state = _codes(original)
    if number is not None:
        return number in _AWAY_IN_MYSQL or number in _CLIENT_ERRORS_OF_MYSQL or is_read_only(error)
    if state is not None:
        return state in _AWAY_IN_POSTGRES or state.startswith("08") or is_read_only(error)
    # psycopg has no state to tell where it could not connect, and asyncpg none for a closed connection.
    return (
        type(original).__name__ == "OperationalError" and _driver(original) == "psycopg"
    ) or _is_of_closed_connection(original)


def is_read_only(error: BaseException) -> bool:
    """Whether a server takes no writes now, as one does that is about to be replaced by another, or was.

    PostgreSQL says the same of a transaction that a program has made read-only.
    """
    original = _original(error)
    if original is None:
        return False
    number, state = _codes(original)
    if state is not None:
        return state == _READ_ONLY_IN_POSTGRES
    text = str(original).lower()
    return number == _READ_ONLY_IN_MYSQL or (
        number == _OPTION_OF_MYSQL and ("read-only" in text or "read_only" in text)
    )


def is_lost(error: BaseException) -> bool:
    """Whether asyncpg says that its connection is of no use any more, with an error that it does not show to all.

    SQLAlchemy 2.0 does not take it for one of the driver's, and would keep the connection.
    """
    original = _original(error)
    return original is not None and _is_of_closed_connection(original)


def _is_of_closed_connection(original: BaseException) -> bool:
    name, text = type(original).__name__, str(original)
    if name == "InternalClientError" and text.endswith(_AFTER_LAST_MESSAGE):
        return True
    return name in {"InterfaceError", "InternalClientError"} and "clos" in text


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
    return original is not None and _codes(original)[0] in _UNDONE_IN_MYSQL


def has_timed_out(error: BaseException) -> bool:
    """Whether a lock was waited for too long in MySQL.

    Its innodb_rollback_on_timeout says whether the server has then rolled back the whole transaction.
    """
    original = _original(error)
    return original is not None and _codes(original)[0] == _LOCK_TIMEOUT_IN_MYSQL


def is_missing_table(error: BaseException) -> bool:
    """Whether a table is not there, as MySQL and PostgreSQL say it."""
    original = _original(error)
    return original is not None and _codes(original) in {(1146, None), (None, "42P01")}


def is_refused_after_another(error: BaseException) -> bool:
    """Whether a statement was refused because an earlier one of its transaction has failed."""
    if isinstance(error, InvalidRequestError):
        return True
    original = _original(error)
    if original is None:
        return False
    number, state = _codes(original)
    return number == _NO_SAVEPOINT_IN_MYSQL or state == _ABORTED_IN_POSTGRES


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
