"""TaskSession: a session that writes messages in its transaction and tells when they are committed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext, Transaction
from sqlalchemy.orm import Session, SessionTransaction
from typing_extensions import override

from tomskit.errors import CommitRefusedError, ConfigurationError, NotInitializedError
from tomskit.sqlalchemy.away import has_conflict, has_timed_out, has_undone
from tomskit.sqlalchemy.rows import OutboxRow

__all__ = ("TaskSession", "watch")


Committed = Callable[[Sequence[OutboxRow]], None]
"""Called with messages that are committed, in the event loop of their session. Must not raise."""


class _Held:
    """Messages that belong to a transaction or to a savepoint that is still open."""

    __slots__ = ("committed", "grace_ms", "rows", "transaction")

    def __init__(
        self,
        transaction: SessionTransaction,
        rows: Sequence[OutboxRow],
        committed: Committed,
        grace_ms: int,
    ) -> None:
        self.transaction = transaction
        self.rows = rows
        self.committed = committed
        self.grace_ms = grace_ms


class TaskSession(Session):
    """The synchronous session of ``db.session``.

    Messages stay in memory until the outermost commit, which writes them in its transaction. What
    was held in a savepoint that is rolled back is dropped.

    Attributes:
        refusal: Why the code that uses the session must not commit it; None where it may.
        conflict: The last error of the running transaction that was the fault of another one. A savepoint
            that ends takes it along.
        undone: The error with which the server has rolled back the running transaction by itself.
        ended: Why the session cannot be used any more; None while it can.
    """

    refusal: str | None = None
    conflict: Exception | None = None
    undone: Exception | None = None
    ended: str | None = None
    _held: list[_Held] | None = None

    @override
    def begin(self, nested: bool = False) -> SessionTransaction:
        # Otherwise the error would be that a transaction has begun, and not why.
        if self.refusal is not None and not nested:
            raise CommitRefusedError(self.refusal)
        return super().begin(nested)

    def hold(self, rows: Sequence[OutboxRow], committed: Committed, *, grace_ms: int) -> None:
        """Write messages when the running transaction is committed.

        Args:
            rows: The messages.
            committed: Called after the commit.
            grace_ms: For how long after the commit only `committed` publishes them.
        """
        if not self.in_transaction():
            # As SQLAlchemy does for an object that is added.
            super().begin()
        if self._held is None:
            self._held = []
        self._held.append(_Held(_innermost(self), rows, committed, grace_ms))

    @override
    def get_bind(self, *args: Any, **kwargs: Any) -> Engine | Connection:
        # Asked for whenever a transaction needs a connection: SQLAlchemy would open a closed session
        # again, and nobody would close it then.
        if self.ended is not None:
            raise NotInitializedError(self.ended)
        return super().get_bind(*args, **kwargs)

    @override
    def connection(
        self,
        bind_arguments: Any = None,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Connection:
        if self.refusal is not None and (execution_options or {}).get("isolation_level") == (
            "AUTOCOMMIT"
        ):
            raise _autocommit_refused(self.refusal)
        return super().connection(bind_arguments, execution_options)

    def check_whole(self, connection: Connection | None = None) -> None:
        """Raise the error with which the server has rolled back what this transaction had done, if any.

        The code that uses the session has caught it, and what was done since is in another transaction.
        """
        conflict = self.conflict
        if self.undone is None and conflict is not None and has_timed_out(conflict):
            asked = connection or self.connection()
            if asked.exec_driver_sql("SELECT @@innodb_rollback_on_timeout").scalar():
                self.undone = conflict
            else:
                self.conflict = None
        if self.undone is not None:
            raise self.undone

    def prepare_held(self) -> None:
        """Make sure that there is a transaction in the database into which messages are written."""
        if self._held:
            self.connection()

    def write_held(self, connection: Connection) -> None:
        """Write what is held; just before the commit of the database's transaction."""
        if not self._held:
            return
        self.check_whole(connection)
        if _is_autocommit(connection):
            raise ConfigurationError(
                "delay_on_commit needs a transaction, and this session has the isolation level "
                "AUTOCOMMIT: leave that out, or send with delay."
            )
        # With it come the tables, and with them a dialect, which few programs use.
        from tomskit.sqlalchemy.writing import write_rows

        write_rows(connection, [(row, one.grace_ms) for one in self._held for row in one.rows])

    def settle(self) -> None:
        """Note that the innermost transaction was committed."""
        if not self._held:
            return
        savepoint = self.get_nested_transaction()
        if savepoint is None:
            held, self._held = self._held, None
            for one in held:
                one.committed(one.rows)
            return
        parent = savepoint.parent
        while parent is not None and not parent.nested and parent.parent is not None:
            parent = parent.parent
        for one in self._held:
            if one.transaction is savepoint and parent is not None:
                one.transaction = parent

    def drop(self, transaction: SessionTransaction) -> None:
        """Drop what belongs to a transaction that has ended without a commit."""
        if transaction.parent is None:
            self.undone = self.conflict = None
        elif transaction.nested and self.undone is None:
            self.conflict = None
        if self._held:
            self._held = [one for one in self._held if one.transaction is not transaction]


def _innermost(session: Session) -> SessionTransaction:
    transaction = session.get_nested_transaction() or session.get_transaction()
    assert transaction is not None  # noqa: S101 (the caller has begun one)
    return transaction


_REMARKS: Final = r"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
_ENDS_TRANSACTION: Final = re.compile(
    _REMARKS + r"((?:COMMIT|BEGIN|START\s+TRANSACTION|END)\b)", re.IGNORECASE | re.DOTALL
)
_ENDS_IN_MYSQL: Final = re.compile(
    _REMARKS + r"((?:CREATE|DROP)\s+(?!TEMPORARY\b)\w+"
    r"|(?:ALTER|TRUNCATE|RENAME|GRANT|REVOKE|FLUSH|LOCK\s+TABLES|(?:ANALYZE|OPTIMIZE|REPAIR)\s+TABLE)\b"
    r"|SET\s+(?:@@)?(?:SESSION\s+|session\.)?autocommit\b)",
    re.IGNORECASE | re.DOTALL,
)


def _committing_text(statement: str, dialect: str) -> str | None:
    """How a statement begins that commits what was done before it."""
    found = _ENDS_TRANSACTION.match(statement)
    if found is None and dialect in {"mysql", "mariadb"}:
        found = _ENDS_IN_MYSQL.match(statement)
    return None if found is None else found[1]


def _is_autocommit(connection: Connection) -> bool:
    """Whether each statement is committed: by an option here, of the engine, or of the driver's URL."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    # As SQLAlchemy lets all drivers look the same, but for those of MySQL.
    driver: Any = connection.connection.dbapi_connection
    asks: Callable[[], object] | None = getattr(driver, "get_autocommit", None)
    if asks is not None:
        return bool(asks())
    if connection.dialect.name == "sqlite":
        # Where it is None, a program may begin transactions by itself.
        used: Any = connection.connection.driver_connection
        return getattr(driver, "isolation_level", "") is None and not used.in_transaction
    return bool(getattr(driver, "autocommit", False))


def _autocommit_refused(refusal: str) -> CommitRefusedError:
    return CommitRefusedError(f"The isolation level AUTOCOMMIT commits each statement. {refusal}")


_sessions: Final[WeakKeyDictionary[Transaction, TaskSession]] = WeakKeyDictionary()
"""Whose the open transactions are."""


def watch(engine: Engine) -> None:
    """Let sessions of an engine write their messages when the database commits, however that is asked.

    `Session.commit` is one way; others are the commit of its connection, and that of its transaction
    while a savepoint is still open.
    """
    event.listen(engine, "commit", _on_commit)
    event.listen(engine, "before_cursor_execute", _before_statement)
    event.listen(engine, "handle_error", _on_error)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "savepoint", _on_savepoint_of_sqlite)


def _session_of(connection: Connection | None) -> TaskSession | None:
    transaction = None if connection is None else connection.get_transaction()
    return None if transaction is None else _sessions.get(transaction)


def _on_commit(connection: Connection) -> None:
    session = _session_of(connection)
    if session is not None:
        if session.refusal is not None:
            raise CommitRefusedError(session.refusal)
        session.write_held(connection)


def _before_statement(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
    session = _session_of(connection)
    if session is not None and session.refusal is not None:
        committing = _committing_text(statement, connection.dialect.name)
        if committing is not None:
            raise CommitRefusedError(f"{committing!r} commits. {session.refusal}")


def _on_error(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception or context.original_exception
    if isinstance(error, Exception) and ((is_undone := has_undone(error)) or has_conflict(error)):
        session = _session_of(context.connection)
        if session is not None:
            session.conflict = error
            if is_undone:
                session.undone = error


def _on_savepoint_of_sqlite(connection: Connection, _name: str | None) -> None:
    # The driver begins a transaction before the first statement that writes, and not before a savepoint:
    # its release would then commit.
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        cursor = connection.connection.cursor()
        cursor.execute("BEGIN")
        cursor.close()


@event.listens_for(TaskSession, "after_begin")
def _after_begin(session: TaskSession, _: SessionTransaction, connection: Connection) -> None:
    if session.refusal is not None and _is_autocommit(connection):
        raise _autocommit_refused(session.refusal)
    transaction = connection.get_transaction()
    if transaction is not None:
        _sessions[transaction] = session


@event.listens_for(TaskSession, "before_commit")
def _before_commit(session: TaskSession) -> None:
    # With a savepoint that is open, this may be its release, or a commit of all.
    if session.refusal is not None and session.get_nested_transaction() is None:
        raise CommitRefusedError(session.refusal)
    session.prepare_held()


@event.listens_for(TaskSession, "after_commit")
def _after_commit(session: TaskSession) -> None:
    session.settle()


@event.listens_for(TaskSession, "after_transaction_end")
def _after_transaction_end(session: TaskSession, transaction: SessionTransaction) -> None:
    session.drop(transaction)
