"""TaskSession: a session that writes messages in its transaction and tells when they are committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext, Transaction
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction
from typing_extensions import override

from tomskit.errors import CommitRefusedError, ConfigurationError, NotInitializedError
from tomskit.sqlalchemy.autocommit import is_autocommit
from tomskit.sqlalchemy.away import (
    has_conflict,
    has_timed_out,
    has_undone,
    is_refused_after_another,
)
from tomskit.sqlalchemy.rows import OutboxRow
from tomskit.sqlalchemy.statements import SavepointStep, effect_of, savepoint_step

__all__ = ("ENDED", "TaskSession", "watch")


ENDED: Final = (
    "db.session was used after its task had ended, by a coroutine that the task left running, or by "
    "code that has kept the session. Await that coroutine in the task, or give it a session of its "
    "own: async with db.scope(): ..."
)
"""What an error says to code that uses a session whose task has ended."""

_GUARD: Final = "tomskit_guard"
_SHOWN: Final = 200
"""Characters of a statement in an error."""

Committed = Callable[[Sequence[OutboxRow]], None]
"""Called with messages that are committed, in the event loop of their session. Must not raise."""


class _Held:
    """Messages that belong to a transaction or to a savepoint that is still open."""

    __slots__ = ("committed", "grace_ms", "is_written", "number", "rows", "transaction")

    def __init__(
        self,
        transaction: SessionTransaction,
        rows: Sequence[OutboxRow],
        committed: Committed,
        grace_ms: int,
        number: int,
    ) -> None:
        self.transaction = transaction
        self.number = number
        self.is_written = False
        self.rows = rows
        self.committed = committed
        self.grace_ms = grace_ms


class TaskSession(Session):
    """The synchronous session of ``db.session``.

    Messages stay in memory until the outermost commit, which writes them in its transaction. What
    was held in a savepoint that is rolled back is dropped.

    Attributes:
        refusal: Why the code that uses the session must not commit it; None where it may.
        finisher: The asyncio task that is about to commit it. Others begin no statements then, but may leave
            their savepoints.
        conflict: The last error of the running transaction that was the fault of another one. A savepoint
            that ends takes it along.
        undone: The error with which the server has rolled back the running transaction by itself.
        lost: Why its transaction was committed although it must not be; None if it was not.
        ended: Why the session cannot be used any more; None while it can.
        user: The asyncio task that waits for a statement, of the session or of its connection.
        connections: What the running transaction holds.
    """

    refusal: str | None = None
    finisher: asyncio.Task[Any] | None = None
    conflict: Exception | None = None
    undone: Exception | None = None
    lost: CommitRefusedError | None = None
    ended: str | None = None
    user: asyncio.Task[Any] | None = None
    connections: tuple[Connection, ...] = ()
    _held: list[_Held] | None = None
    _count: int = 0
    _savepoints: list[tuple[str, int]] | None = None
    """Those of the database that are open, the outermost first: their names, and how many calls of `hold`
    were before them."""
    _guarded: str | None = None
    """The statement that may end the transaction and does not show it, while it runs."""

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
        self._held.append(_Held(_innermost(self), rows, committed, grace_ms, self._count))
        self._count += 1

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
        # A statement may have been sent to another engine, whose database is no place for messages.
        if not self._held or connection.engine.pool is not super().get_bind().engine.pool:
            return
        self.check_whole(connection)
        if is_autocommit(connection):
            raise ConfigurationError(
                "delay_on_commit needs a transaction, and this session has the isolation level "
                "AUTOCOMMIT: leave that out, or send with delay."
            )
        # With it come the tables, and with them a dialect, which few programs use.
        from tomskit.sqlalchemy.writing import write_rows

        fresh = [one for one in self._held if not one.is_written]
        rows = [(row, one.grace_ms) for one in fresh for row in one.rows]
        if rows:
            write_rows(connection, rows)
        for one in fresh:
            one.is_written = True

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
            self.undone = self.conflict = self._savepoints = self._guarded = None
            self.connections = ()
        elif transaction.nested and self.undone is None:
            self.conflict = None
        if self._held:
            self._held = [one for one in self._held if one.transaction is not transaction]

    def before_statement(self, connection: Connection, statement: str) -> None:
        """Refuse a statement that must not be executed in the running transaction, or watch over it.

        Raises:
            CommitRefusedError: It ends the transaction.
            NotInitializedError: It comes from code that the task has left running.
        """
        if self.finisher not in (None, asyncio.current_task()) and not savepoint_step(statement):
            raise NotInitializedError(ENDED)
        if self.refusal is None and not self._held:
            return
        effect = effect_of(statement, connection.dialect.name)
        if self.refusal is None:
            if effect.commits:
                self.write_held(connection)
        elif effect.ends is not None:
            raise CommitRefusedError(f"{effect.ends!r} ends the transaction. {self.refusal}")
        elif effect.may_end:
            # Whatever ends the transaction ends its savepoints.
            connection.exec_driver_sql(f"SAVEPOINT {_GUARD}")
            self._guarded = statement

    def after_statement(self, connection: Connection, statement: str) -> None:
        """Note what a statement has done.

        Raises:
            CommitRefusedError: It has ended the transaction.
        """
        if self._guarded is not None:
            self.check_guarded(connection)
        step = savepoint_step(statement)
        if step is not None:
            self._note_savepoint(step)

    def check_guarded(self, connection: Connection) -> None:
        """See whether the statement that was watched over has ended the transaction.

        Raises:
            CommitRefusedError: It has.
        """
        guarded, self._guarded = self._guarded, None
        if guarded is None or self.undone is not None:
            return
        try:
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_GUARD}")
        except DBAPIError as exc:
            if not is_refused_after_another(exc):
                raise
            self.check_whole(connection)
            self.lost = CommitRefusedError(
                f"{guarded[:_SHOWN]!r} has ended the transaction, so that what the task had done before is "
                f"committed without a mark, and is done again if the task runs again. {self.refusal}"
            )
            raise self.lost from exc

    def _note_savepoint(self, done: SavepointStep) -> None:
        if self._savepoints is None:
            self._savepoints = []
        opened = self._savepoints
        if done.step == "set":
            opened.append((done.name, self._count))
            return
        found = [place for place, (name, _) in enumerate(opened) if name == done.name]
        if not found:
            return
        _, count = opened[found[-1]]
        if done.step == "release":
            del opened[found[-1] :]
            return
        del opened[found[-1] + 1 :]
        if self.undone is None:
            self.conflict = None
        if self._held:
            self._held = [one for one in self._held if one.number < count]


def _innermost(session: Session) -> SessionTransaction:
    transaction = session.get_nested_transaction() or session.get_transaction()
    assert transaction is not None  # noqa: S101 (the caller has begun one)
    return transaction


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
    event.listen(engine, "after_cursor_execute", _after_statement)
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
    if session is not None:
        session.before_statement(connection, statement)
        session.user = asyncio.current_task()


def _after_statement(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
    session = _session_of(connection)
    if session is not None:
        session.user = None
        session.after_statement(connection, statement)


def _on_error(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception or context.original_exception
    session = _session_of(context.connection)
    if session is None:
        return
    try:
        if not isinstance(error, Exception):
            return
        if (is_undone := has_undone(error)) or has_conflict(error):
            session.conflict = error
            if is_undone:
                session.undone = error
        if context.connection is not None and not context.is_disconnect:
            session.check_guarded(context.connection)
    finally:
        # Also for the statement that the check executes: SQLAlchemy does not call this for its error.
        session.user = None


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
    if session.refusal is not None and is_autocommit(connection):
        raise _autocommit_refused(session.refusal)
    transaction = connection.get_transaction()
    if transaction is not None:
        _sessions[transaction] = session
    if connection not in session.connections:
        session.connections += (connection,)


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
