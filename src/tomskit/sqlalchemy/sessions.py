"""TaskSession: a session that writes messages in its transaction and tells when they are committed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import TextClause, event
from sqlalchemy.engine import Connection, Engine, ExceptionContext, Transaction
from sqlalchemy.orm import Session, SessionTransaction
from typing_extensions import override

from tomskit.errors import CommitRefusedError, ConfigurationError, NotInitializedError
from tomskit.sqlalchemy.away import has_undone
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
        undone: The error with which the server has rolled back the running transaction by itself.
        ended: Why the session cannot be used any more; None while it can.
    """

    refusal: str | None = None
    undone: BaseException | None = None
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
        bind = super().get_bind(*args, **kwargs)
        if self.refusal is not None:
            text = _committing_text(kwargs.get("clause"), bind.dialect.name)
            if text is not None:
                raise CommitRefusedError(f"{text!r} commits. {self.refusal}")
        return bind

    @override
    def connection(
        self,
        bind_arguments: Any = None,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Connection:
        if self.refusal is not None and _is_autocommit(execution_options or {}):
            raise CommitRefusedError(
                f"The isolation level AUTOCOMMIT commits each statement. {self.refusal}"
            )
        return super().connection(bind_arguments, execution_options)

    def prepare_held(self) -> None:
        """Make sure that there is a transaction in the database into which messages are written."""
        if self._held:
            self.connection()

    def write_held(self, connection: Connection) -> None:
        """Write what is held; just before the commit of the database's transaction."""
        if not self._held:
            return
        if self.undone is not None:
            raise self.undone
        if _is_autocommit(connection.get_execution_options()):
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
            self.undone = None
        if self._held:
            self._held = [one for one in self._held if one.transaction is not transaction]


def _innermost(session: Session) -> SessionTransaction:
    transaction = session.get_nested_transaction() or session.get_transaction()
    assert transaction is not None  # noqa: S101 (the caller has begun one)
    return transaction


_ENDS_TRANSACTION: Final = re.compile(r"\s*(COMMIT|BEGIN|START\s+TRANSACTION|END)\b", re.IGNORECASE)
_ENDS_IN_MYSQL: Final = re.compile(
    r"\s*((CREATE|DROP)\s+(?!TEMPORARY\b)|(ALTER|TRUNCATE|RENAME|GRANT|REVOKE|LOCK\s+TABLES)\b"
    r"|SET\s+(@@)?(SESSION\s+|session\.)?autocommit\b)",
    re.IGNORECASE,
)


def _committing_text(clause: object, dialect: str) -> str | None:
    """How a statement begins that is given as text and commits what was done before it."""
    if not isinstance(clause, TextClause):
        return None
    found = _ENDS_TRANSACTION.match(clause.text)
    if found is None and dialect in {"mysql", "mariadb"}:
        found = _ENDS_IN_MYSQL.match(clause.text)
    return None if found is None else found[0].strip()


def _is_autocommit(options: Mapping[str, Any]) -> bool:
    return options.get("isolation_level") == "AUTOCOMMIT"


_sessions: Final[WeakKeyDictionary[Transaction, TaskSession]] = WeakKeyDictionary()
"""Whose the open transactions are."""


def watch(engine: Engine) -> None:
    """Let sessions of an engine write their messages when the database commits, however that is asked.

    `Session.commit` is one way; others are the commit of its connection, and that of its transaction
    while a savepoint is still open.
    """
    event.listen(engine, "commit", _on_commit)
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


def _on_error(context: ExceptionContext) -> None:
    if has_undone(context.original_exception):
        session = _session_of(context.connection)
        if session is not None:
            session.undone = context.sqlalchemy_exception or context.original_exception


def _on_savepoint_of_sqlite(connection: Connection, _name: str | None) -> None:
    # The driver begins a transaction before the first statement that writes, and not before a savepoint:
    # its release would then commit.
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN")


@event.listens_for(TaskSession, "after_begin")
def _after_begin(session: TaskSession, _: SessionTransaction, connection: Connection) -> None:
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
