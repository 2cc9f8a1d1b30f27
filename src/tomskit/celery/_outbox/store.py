"""OutboxStore: messages are published in batches, and deleted when the broker has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

from celery.utils.log import get_logger
from kombu.exceptions import OperationalError
from kombu.utils.json import loads
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    delete,
    func,
    inspect,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.client import publish_each
from tomskit.celery._client.origin import patterns_of
from tomskit.celery._client.recording import as_bytes
from tomskit.celery._client.retrying import is_away
from tomskit.sqlalchemy.away import has_conflict
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.rows import OutboxRow
from tomskit.sqlalchemy.tables import metadata, now_ms, once, outbox

__all__ = ("BATCH", "Batch", "OutboxStore", "Waiting")

logger: Final = get_logger(__name__)

BATCH: Final = 500
"""How many messages are published, and deleted, together."""

_RELAYS: Final = 4
"""How many workers find messages to publish at the same moment."""

_PUBLISH_SECONDS: Final = 30.0
_DATABASE_SECONDS: Final = 30.0
_CLAIM_MS: Final = 60_000
"""How long a claim holds, where the database cannot skip locked rows. Longer than publishing takes."""

_LONGEST_DELAY_MS: Final = 3_600_000
_FIRST_DELAY_MS: Final = 5_000


@dataclass
class Batch:
    """What became of messages that were to be published.

    Attributes:
        taken: The ids of those that the broker has.
        refused: Those that can never be published as they are, and why.
        away: Why the others were not published: the broker is away.
        size: How many there were.
    """

    size: int = 0
    taken: list[str] = field(default_factory=list[str])
    refused: list[tuple[str, Exception]] = field(default_factory=list[tuple[str, Exception]])
    away: Exception | None = None


@dataclass(frozen=True)
class Waiting:
    """How many messages wait, and for how many seconds the oldest one has.

    Attributes:
        count: Of the app's own.
        oldest_seconds: Of these.
        others: Those of other apps, which have other brokers.
        oldest_of_others: Of these.
    """

    count: int
    oldest_seconds: float
    others: int = 0
    oldest_of_others: float = 0.0


class OutboxStore:
    """The table of messages in one database.

    Args:
        app: Whose messages they are.
        database: Has an engine for each event loop that uses the store.
    """

    def __init__(self, app: AsyncApp, database: Database) -> None:
        self._app = app
        self._database = database
        self._unsettled: Batch | None = None

    async def publish(self, rows: Sequence[OutboxRow]) -> Batch:
        """Publish messages."""
        batch = Batch(size=len(rows))
        if not rows:
            return batch
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                errors = await publish_each(self._app, rows)
        except TimeoutError as exc:
            batch.away = exc
            return batch
        except (ValueError, TypeError, KeyError, AttributeError):
            readable = [row for row in rows if _is_readable(row, batch)]
            if not batch.refused:
                raise
            rest = await self.publish(readable)
            return replace(rest, size=len(rows), refused=batch.refused + rest.refused)
        for row, error in zip(rows, errors, strict=True):
            if error is None:
                batch.taken.append(row["id"])
            elif isinstance(error, OperationalError) or is_away(error):
                batch.away = error
            else:
                batch.refused.append((row["id"], error))
                _log_refused(row, error)
        return batch

    async def settle(self, batch: Batch) -> None:
        """Delete what was published, and put off what cannot be."""
        async with self._transaction() as connection:
            await _settle(connection, batch)

    async def publish_due(self) -> Batch:
        """Publish messages that the processes that committed them have left; at most `BATCH`.

        Those that an earlier call has published and could not delete, as the database was away, are deleted
        first.
        """
        await self._settle_earlier()
        if self._skips_locked_rows():
            return await self._publish_locked()
        async with self._transaction() as connection:
            claim, rows = await _claim(connection, self._is_mine())
        self._unsettled = batch = await self.publish(rows)
        async with self._transaction() as connection:
            await _settle(connection, batch)
            if batch.away is not None:
                mine = outbox.c.claim == claim
                await connection.execute(update(outbox).where(mine).values(due=now_ms()))
        self._unsettled = None
        return batch

    async def _publish_locked(self) -> Batch:
        batch: Batch | None = None
        try:
            # The locks end with the connection, should this process die.
            async with self._transaction(isolated=True) as connection:
                batch = await self.publish(await _lock(connection, self._is_mine()))
                self._unsettled = batch
                await _settle(connection, batch)
        except DBAPIError as exc:
            if batch is None or not has_conflict(exc):
                raise
            # They are published: what is not deleted now is published again.
            await self._settle_earlier()
        self._unsettled = None
        return batch

    async def _settle_earlier(self) -> None:
        if self._unsettled is not None:
            await self.settle(self._unsettled)
            self._unsettled = None

    async def waiting(self) -> Waiting:
        """How many messages wait."""
        mine = self._is_mine()
        statement = select(
            func.count(case((mine, outbox.c.created))),
            func.min(case((mine, outbox.c.created))),
            func.count(case((not_(mine), outbox.c.created))),
            func.min(case((not_(mine), outbox.c.created))),
            now_ms(),
        )
        async with self._transaction() as connection:
            found = (await connection.execute(statement.select_from(outbox))).one()
        count, oldest, others, oldest_of_others, now = found
        return Waiting(count, _seconds(oldest, now), others, _seconds(oldest_of_others, now))

    async def has_tables(self) -> bool:
        """Whether the tables are in the database."""
        async with self._transaction() as connection:
            return await connection.run_sync(_has_tables)

    async def forget_marks(self, *, days: float) -> int:
        """Delete marks of tasks that ended more than `days` ago; at most a thousand.

        Returns:
            How many there were.
        """
        before = now_ms() - int(days * 86_400_000)
        old = select(once.c.task_id).where(once.c.finished < before).limit(1000)
        async with self._transaction() as connection:
            ids = (await connection.execute(old)).scalars().all()
            if ids:
                await connection.execute(delete(once).where(once.c.task_id.in_(ids)))
        return len(ids)

    @asynccontextmanager
    async def _transaction(self, *, isolated: bool = False) -> AsyncGenerator[AsyncConnection]:
        async with (
            asyncio.timeout(_DATABASE_SECONDS + (_PUBLISH_SECONDS if isolated else 0)),
            self._database.engine.connect() as connection,
        ):
            if isolated:
                # Under a stricter level MySQL locks the gaps between rows as well, and whoever
                # wants to write a message waits.
                await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                yield connection

    def _is_mine(self) -> ColumnElement[bool]:
        """Of a row: whether the app may publish it, for all that its id tells."""
        here, moved = patterns_of(self._app)
        # Those of earlier versions do not tell.
        return or_(outbox.c.id.like(here), outbox.c.id.like(moved), outbox.c.id.not_like("%.%"))

    def _skips_locked_rows(self) -> bool:
        dialect = self._database.engine.dialect
        if dialect.name == "postgresql":
            return True
        version: tuple[int, ...] = getattr(dialect, "server_version_info", None) or ()
        if dialect.name in {"mysql", "mariadb"}:
            is_mariadb = bool(getattr(dialect, "is_mariadb", False))
            # Not known before the first connection.
            return bool(version) and version >= ((10, 6) if is_mariadb else (8, 0, 1))
        return False


def _seconds(created: int | None, now: int) -> float:
    return 0.0 if created is None else max(now - created, 0) / 1000


async def _lock(connection: AsyncConnection, is_mine: ColumnElement[bool]) -> list[OutboxRow]:
    is_due = and_(outbox.c.due <= now_ms(), is_mine)
    ids = select(outbox.c.id).where(is_due).order_by(outbox.c.due).limit(BATCH * _RELAYS)
    found = (await connection.execute(ids)).scalars().all()
    if not found:
        return []
    # By their ids alone: InnoDB would lock entries of the other index as well, and those who delete and
    # those who look would wait for each other.
    locked = (
        select(outbox.c.id, outbox.c.body, outbox.c.options, is_due.label("is_due"))
        .where(outbox.c.id.in_(found))
        .order_by(outbox.c.id)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    rows = (await connection.execute(locked)).mappings().all()
    # Another worker may have put some off meanwhile.
    return _rows(row for row in rows if row["is_due"])


async def _claim(
    connection: AsyncConnection, is_mine: ColumnElement[bool]
) -> tuple[str, list[OutboxRow]]:
    claim = uuid4().hex
    is_due = and_(outbox.c.due <= now_ms(), is_mine)
    ids = select(outbox.c.id).where(is_due).order_by(outbox.c.due).limit(BATCH)
    found = (await connection.execute(ids)).scalars().all()
    if not found:
        return claim, []
    # Another worker may have claimed some of them meanwhile.
    await connection.execute(
        update(outbox)
        .where(outbox.c.id.in_(found), is_due)
        .values(claim=claim, due=now_ms() + _CLAIM_MS)
    )
    mine = select(outbox.c.id, outbox.c.body, outbox.c.options).where(outbox.c.claim == claim)
    rows = await connection.execute(mine.order_by(outbox.c.id))
    return claim, _rows(rows.mappings())


def _rows(found: Iterable[RowMapping]) -> list[OutboxRow]:
    return [OutboxRow(id=row["id"], body=row["body"], options=row["options"]) for row in found]


async def _settle(connection: AsyncConnection, batch: Batch) -> None:
    if batch.taken:
        await connection.execute(delete(outbox).where(outbox.c.id.in_(batch.taken)))
    for row_id, _ in batch.refused:
        tries = await connection.scalar(select(outbox.c.tries).where(outbox.c.id == row_id))
        delay = min(_FIRST_DELAY_MS * 2 ** min(tries or 0, 20), _LONGEST_DELAY_MS)
        await connection.execute(
            update(outbox)
            .where(outbox.c.id == row_id)
            .values(tries=outbox.c.tries + 1, due=now_ms() + delay)
        )


def _has_tables(connection: Connection) -> bool:
    inspector = inspect(connection)
    return all(inspector.has_table(table.name) for table in metadata.sorted_tables)


def _is_readable(row: OutboxRow, batch: Batch) -> bool:
    """Whether a row is a message at all; one that is not is refused, and holds up no other."""
    try:
        loads(row["options"])["headers"]
        as_bytes(row["body"])
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        batch.refused.append((row["id"], exc))
        logger.critical(
            "The row %s of tomskit_outbox is not a message. It stays there, and is tried again at least once "
            "an hour: %r",
            row["id"],
            exc,
        )
        return False
    return True


def _log_refused(row: OutboxRow, error: Exception) -> None:
    headers = loads(row["options"])["headers"]
    logger.critical(
        "Cannot publish the message of %s[%s]. It stays in tomskit_outbox as %s, and is tried again at "
        "least once an hour: %r",
        headers.get("task"),
        headers.get("id"),
        row["id"],
        error,
    )
