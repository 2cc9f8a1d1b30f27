"""Marks: which tasks with once=True have run, and what they returned."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Coroutine, Generator, Iterable
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Never, TypeVar
from weakref import WeakKeyDictionary

from kombu.serialization import dumps, loads
from kombu.utils.encoding import str_to_bytes
from sqlalchemy import Row, bindparam, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tomskit.celery._client.recording import as_bytes, as_text
from tomskit.errors import ConfigurationError, NotInitializedError
from tomskit.resources import background
from tomskit.sqlalchemy.away import has_conflict, is_away, is_of_database
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.sessions import TaskSession
from tomskit.sqlalchemy.tables import now_ms, once
from tomskit.sqlalchemy.writing import missing_table, own_schema

__all__ = (
    "ANSWER_SECONDS",
    "Mark",
    "NoAnswerError",
    "SearchError",
    "Stored",
    "commit",
    "commit_with",
    "find_mark",
    "find_mark_surely",
    "mark_of",
    "write_mark",
)

T = TypeVar("T")

ANSWER_SECONDS: Final = 60.0
"""For how long a statement of ours waits. Longer than MySQL waits for a lock."""

_LONGEST_ID: Final = 255
_AT_ONCE: Final = 500
"""How many marks one statement looks for."""

Mark = dict[str, str | None]
"""A row of the table, without its time."""


@dataclass(frozen=True)
class Stored:
    """The result of an earlier delivery."""

    value: object


class NoAnswerError(TimeoutError):
    """The database has not answered a statement of ours."""


class SearchError(Exception):
    """The marks of several tasks could not be looked for. The cause is the error of the database.

    Each task gets an error of its own: one that several raise at once has the traceback of any of them.
    """


def mark_of(task_id: str, value: object, serializer: str | None) -> Mark:
    """The mark of a task that has returned `value`; without it if `serializer` is None."""
    key = _key(task_id)
    if serializer is None:
        return {"task_id": key, "content_type": None, "content_encoding": None, "result": None}
    content_type, encoding, data = dumps(value, serializer=serializer)
    return {
        "task_id": key,
        "content_type": content_type,
        "content_encoding": encoding,
        "result": as_text(str_to_bytes(data)),
    }


async def write_mark(session: AsyncSession, mark: Mark) -> IntegrityError | None:
    """Write a mark in the running transaction; returns the error if there is one, of another delivery."""
    return await _in_time(session.run_sync(_write, mark))


def commit_with(session: TaskSession, mark: Mark) -> IntegrityError | None:
    """Commit the running transaction with a mark; returns the error, without a commit, if there is one.

    Both in one call: each that an `AsyncSession` awaits begins a greenlet of its own.
    """
    duplicate = _write(session, mark)
    if duplicate is None:
        commit(session)
    return duplicate


def commit(session: TaskSession) -> None:
    """Commit the running transaction, which until then nobody may commit."""
    session.refusal = None
    session.commit()


async def find_mark(database: Database, task_id: str) -> Stored | None:
    """What an earlier delivery of a task has returned; None if there was none.

    Tasks that begin while others are looked for share the next statement.
    """
    mine = _searches.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    search = mine.get(database)
    if search is None:
        search = mine[database] = _Search()
    found = await search.find(database, _key(task_id))
    return None if found is None else _loaded(found)


async def find_mark_surely(database: Database, task_id: str) -> Stored | None:
    """The same where a mark is expected: a server that is behind another one must not answer.

    What distributes statements among servers gives one that locks rows to the server that is written to.

    Raises:
        ConfigurationError: The database has taken the mark of another task for this one's.
    """
    if (stored := await find_mark(database, task_id)) is not None:
        return stored
    key = _key(task_id)
    locking = _COLUMNS.where(once.c.task_id == key).with_for_update(read=True)

    async def find() -> dict[str, _Row]:
        async with database.engine.begin() as connection:
            return _by_id(await connection.execute(locking))

    found = await _in_time(find())
    if found and key not in found:
        others = ", ".join(map(repr, found))
        raise ConfigurationError(
            f"The task {task_id!r} cannot be marked as run, as tomskit_once has a mark of {others}, which its "
            "column task_id takes for the same. It must compare every byte: give the column the collation that "
            "tomskit.sqlalchemy.tables.metadata has, in MySQL utf8mb4_bin."
        )
    return _loaded(found[key]) if found else None


def _loaded(row: _Row) -> Stored:
    content_type, encoding, text = row
    if content_type is None or encoding is None or text is None:
        return Stored(None)
    return Stored(loads(as_bytes(text), content_type, encoding, accept=[content_type]))


_Row = tuple[str | None, str | None, str | None]
_Found = asyncio.Future[_Row | None]


class _Search:
    """Looks for marks in one database, in one event loop."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None
        self._waiting: list[tuple[str, _Found]] = []
        background.add(self)

    async def finish(self) -> None:
        """Do nothing: it ends in its own time, which is short, and those who wait for it end before."""

    async def find(self, database: Database, key: str) -> _Row | None:
        found: _Found = asyncio.get_running_loop().create_future()
        self._waiting.append((key, found))
        if self.task is None:
            # In a context of its own: it is no part of the task that has begun it.
            search = self._search(database)
            self.task = self.loop.create_task(search, context=Context())
        return await found

    async def _search(self, database: Database) -> None:
        some: list[tuple[str, _Found]] = []
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                try:
                    rows = await _in_time(_select(database, {key for key, _ in some}))
                except asyncio.CancelledError:
                    raise
                except BaseException as exc:  # noqa: BLE001 (those who wait for it raise it)
                    for _, found in some:
                        if not found.done():
                            found.set_exception(_one_of_many(exc))
                else:
                    for key, found in some:
                        if not found.done():
                            found.set_result(rows.get(key))
        finally:
            self.task = None
            for _, found in some + self._waiting:
                found.cancel()
            self._waiting = []


def _one_of_many(error: BaseException) -> BaseException:
    if isinstance(error, NoAnswerError):
        return NoAnswerError(*error.args)
    if not (is_of_database(error) and (is_away(error) or has_conflict(error))):
        return error
    made = SearchError(f"Cannot look for the mark of a task with once=True: {error!r}")
    made.__cause__ = error
    return made


_searches: Final[
    WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Database, _Search]]
] = WeakKeyDictionary()

_COLUMNS: Final = select(
    once.c.task_id, once.c.content_type, once.c.content_encoding, once.c.result
)
_WRITE: Final = insert(once).values(
    task_id=bindparam("task_id"),
    content_type=bindparam("content_type"),
    content_encoding=bindparam("content_encoding"),
    result=bindparam("result"),
    finished=now_ms(),
)


async def _select(database: Database, keys: Collection[str]) -> dict[str, _Row]:
    with _missing_table_named():
        async with database.engine.connect() as connection:
            return _by_id(await connection.execute(_COLUMNS.where(once.c.task_id.in_(keys))))


def _by_id(rows: Iterable[Row[str, str | None, str | None, str | None]]) -> dict[str, _Row]:
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _write(session: Session, mark: Mark) -> IntegrityError | None:
    with _missing_table_named():
        try:
            # Not by the session, which would need twice as long to find out that this is no object.
            connection = session.connection()
            connection.execute(_WRITE, mark, execution_options=own_schema(connection))
        except IntegrityError as exc:
            return exc
    return None


@contextmanager
def _missing_table_named() -> Generator[None]:
    try:
        yield
    except DBAPIError as exc:
        if not missing_table(exc):
            raise
        raise NotInitializedError(
            "The table tomskit_once, into which tasks with once=True write their marks, is not in this "
            "database. Make it once: await db.create_tables(), or with Alembic and "
            "tomskit.sqlalchemy.tables.metadata."
        ) from exc


async def _in_time(coro: Coroutine[object, Never, T]) -> T:
    """Await a statement of ours, which waits for no other transaction but for the end of one."""
    timeout = asyncio.timeout(ANSWER_SECONDS)
    try:
        async with timeout:
            return await coro
    except TimeoutError as exc:
        if not timeout.expired():
            raise
        raise NoAnswerError(f"The database has not answered for {ANSWER_SECONDS:g} s") from exc


def _key(task_id: str) -> str:
    """The id, or what stands for one that would not come back as it is."""
    is_plain = task_id.isascii() and task_id.isprintable() and task_id == task_id.strip()
    if is_plain and len(task_id) <= _LONGEST_ID:
        return task_id
    return hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()
