"""TaskSession: a session that writes messages in its transaction and tells when they are committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, event, insert, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction
from typing_extensions import TypedDict, override

from tomskit.errors import CommitRefusedError, NotInitializedError
from tomskit.sqlalchemy.tables import now_ms, outbox

__all__ = ("OutboxRow", "TaskSession", "missing_table")


class OutboxRow(TypedDict):
    """A message, as it is written: in ASCII."""

    id: str
    body: str
    options: str


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
        ended: Why the session cannot be used any more; None while it can.
    """

    refusal: str | None = None
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

    def write_held(self) -> None:
        """Write what is held; before the outermost commit."""
        if not self._held:
            return
        # What hooks send while objects are flushed belongs to this commit as well.
        self.flush()
        values = [{**row, "grace": one.grace_ms} for one in self._held for row in one.rows]
        try:
            connection = self.connection()
            if len(values) == 1:
                connection.execute(_INSERT_BY_SERVER_CLOCK, values[0])
            else:
                # Drivers send many rows at once only where there are no expressions among them.
                now = connection.scalar(_NOW) or 0
                rows = [
                    {k: v for k, v in row.items() if k != "grace"}
                    | {"created": now, "due": now + grace}
                    for row in values
                    if isinstance(grace := row["grace"], int)
                ]
                connection.execute(insert(outbox), rows)
        except DBAPIError as exc:
            if missing_table(exc):
                raise _no_table() from exc
            raise

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
        if self._held:
            self._held = [one for one in self._held if one.transaction is not transaction]


_NOW: Final = select(now_ms())
_INSERT_BY_SERVER_CLOCK: Final = insert(outbox).values(
    id=bindparam("id"),
    body=bindparam("body"),
    options=bindparam("options"),
    created=now_ms(),
    due=now_ms() + bindparam("grace"),
)


def _innermost(session: Session) -> SessionTransaction:
    transaction = session.get_nested_transaction() or session.get_transaction()
    assert transaction is not None  # noqa: S101 (the caller has begun one)
    return transaction


@event.listens_for(TaskSession, "before_commit")
def _before_commit(session: TaskSession) -> None:
    if session.get_nested_transaction() is not None:
        return
    if session.refusal is not None:
        raise CommitRefusedError(session.refusal)
    session.write_held()


@event.listens_for(TaskSession, "after_commit")
def _after_commit(session: TaskSession) -> None:
    session.settle()


@event.listens_for(TaskSession, "after_transaction_end")
def _after_transaction_end(session: TaskSession, transaction: SessionTransaction) -> None:
    session.drop(transaction)


def missing_table(error: DBAPIError) -> bool:
    """Whether a statement failed because our tables are not there."""
    text = str(error.orig)
    return "tomskit_" in text and (
        "doesn't exist" in text or "does not exist" in text or "no such table" in text
    )


def _no_table() -> NotInitializedError:
    return NotInitializedError(
        "The table tomskit_outbox, into which delay_on_commit writes, is not in this database. Make "
        "it once: await db.create_tables(), or with Alembic and tomskit.sqlalchemy.tables.metadata."
    )
