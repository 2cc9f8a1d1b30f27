"""Writes messages into the database, in the transaction that is about to be committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import bindparam, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from tomskit.errors import NotInitializedError
from tomskit.sqlalchemy.away import is_missing_table
from tomskit.sqlalchemy.rows import OutboxRow
from tomskit.sqlalchemy.tables import now_ms, outbox

__all__ = ("missing_table", "own_schema", "write_rows")

_SCHEMAS: Final = "schema_translate_map"
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
            values = {**row, "grace": grace}
            connection.execute(
                _INSERT_BY_SERVER_CLOCK, values, execution_options=own_schema(connection)
            )
        else:
            # Drivers send many rows at once only where there are no expressions among them.
            now = connection.scalar(_NOW) or 0
            all_values = [{**row, "created": now, "due": now + grace} for row, grace in rows]
            connection.execute(insert(outbox), all_values, execution_options=own_schema(connection))
    except DBAPIError as exc:
        if missing_table(exc):
            raise _no_table() from exc
        raise


def own_schema(connection: Connection) -> dict[str, Any]:
    """Options of a statement of ours: our tables are where the engine has them.

    The code that has opened the connection may work in the schema of a tenant.
    """
    options = connection.get_execution_options()
    if _SCHEMAS not in options:
        return {}
    return {_SCHEMAS: connection.engine.get_execution_options().get(_SCHEMAS)}


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
