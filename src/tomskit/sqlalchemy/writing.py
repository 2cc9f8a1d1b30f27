"""Writes messages into the database, in the transaction that is about to be committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from tomskit.errors import NotInitializedError
from tomskit.sqlalchemy.away import is_missing_table
from tomskit.sqlalchemy.rows import OutboxRow
from tomskit.sqlalchemy.tables import now_ms, outbox

__all__ = ("missing_table", "write_rows")

_NOW: Final = select(now_ms())
_INSERT_BY_SERVER_CLOCK: Final = insert(outbox).values(
    id=bindparam("id"),
    body=bindparam("body"),
    options=bindparam("options"),
    created=now_ms(),
    due=now_ms() + bindparam("grace"),
)


def write_rows(connection: Connection, rows: Sequence[tuple[OutboxRow, int]]) -> None:
    """Write messages.

    Args:
        connection: Has the transaction.
        rows: The messages, each with the milliseconds for which only its own process publishes it.

    Raises:
        NotInitializedError: The table is missing.
    """
    try:
        if len(rows) == 1:
            row, grace = rows[0]
            connection.execute(_INSERT_BY_SERVER_CLOCK, {**row, "grace": grace})
        else:
            # Drivers send many rows at once only where there are no expressions among them.
            now = connection.scalar(_NOW) or 0
            values = [{**row, "created": now, "due": now + grace} for row, grace in rows]
            connection.execute(insert(outbox), values)
    except DBAPIError as exc:
        if missing_table(exc):
            raise _no_table() from exc
        raise


def missing_table(error: DBAPIError) -> bool:
    """Whether a statement failed because our tables are not there."""
    text = str(error.orig)
    # By numbers, as servers have texts in many languages.
    return "tomskit_" in text and (is_missing_table(error) or "no such table" in text)


def _no_table() -> NotInitializedError:
    return NotInitializedError(
        "The table tomskit_outbox, into which delay_on_commit writes, is not in this database. Make "
        "it once: await db.create_tables(), or with Alembic and tomskit.sqlalchemy.tables.metadata."
    )
