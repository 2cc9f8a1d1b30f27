"""once=True: the body of a task in one transaction, which is committed with a mark of the task's id."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Never, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from tomskit.celery._client.retrying import Outage, Retrying
from tomskit.celery._outbox import marks
from tomskit.celery._outbox.databases import committing
from tomskit.sqlalchemy.away import has_conflict, is_away, is_of_database
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.sessions import TaskSession

__all__ = ("OnceCall", "run_once")

T = TypeVar("T")

logger: Final = logging.getLogger(__name__)

_CONFLICTS: Final = 10
"""How many times a body is repeated because of other transactions; twenty that all want the same two rows in
different orders need more than five now and then."""
_CONFLICT_PAUSE: Final = 0.05
_LONGEST_CONFLICT_PAUSE: Final = 1.6
"""Seconds."""
_LOSSES: Final = 10
"""How many times in a row a body is repeated because its connection was lost, by a server that answers."""
_ROLLBACK_SECONDS: Final = 5.0
_CANCELLATIONS: Final = 3
"""psycopg takes the first one for a wish to ask the server, and goes on waiting."""


@dataclass(frozen=True)
class OnceCall:
    """A delivery of a message to a task with ``once=True``.

    Attributes:
        name: The task's name and id, for log lines.
        task_id: None for a call without a message, which leaves no mark.
        body: Makes the coroutine of the task's function.
        dump: Makes what is stored of what the function returns.
        serializer: Of results; None where nobody wants them.
    """

    name: str
    task_id: str | None
    body: Callable[[], Coroutine[object, Never, object]]
    dump: Callable[[object], object]
    serializer: str | None


_REFUSAL: Final = (
    "A task with once=True must not commit: its transaction is committed with the mark that it has run, "
    "when it returns. Leave the commit out. For a part that may be rolled back alone use "
    "async with db.session.begin_nested(), and for one that is to be committed in any case a session "
    "of its own: async with db.scope()."
)


async def run_once(database: Database, call: OnceCall) -> object:
    """Run a task's body and commit it with its mark; or answer what an earlier delivery returned.

    The mark is looked for first, as any message may come twice: a publisher that has lost its connection
    publishes again, and the broker does not know that it is the same. Whatever the body raises rolls its
    transaction back. Where that was the fault of the database, which was away or has ended a deadlock,
    the body is repeated.
    """
    repeats = _Repeats(call.name)
    session = database.session
    committing.set(database)
    while True:
        has_answered = False
        try:
            if (stored := await _stored(database, call)) is not None:
                return stored.value
            has_answered = True
            result = await _attempt(database, session, call)
        except Exception as exc:
            await _roll_back(session)
            pause = repeats.pause_after(exc, has_answered=has_answered)
            if pause is None:
                # Another delivery may have run meanwhile, and this one was in its way.
                if has_answered and (stored := await _stored_meanwhile(database, call)) is not None:
                    return stored.value
                raise
            await asyncio.sleep(pause)
        else:
            repeats.ended()
            return result


class _Repeats:
    """Decides whether a body is repeated after an error of the database."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._conflicts = 0
        self._losses = 0
        self._retrying = Retrying(
            Outage(f"commit {name}", "the database", logger), is_away=lambda _: True
        )

    def pause_after(self, exc: Exception, *, has_answered: bool) -> float | None:
        """Seconds to wait before the body is repeated; None if it is not.

        Args:
            exc: What was raised.
            has_answered: Whether the database had answered before.
        """
        cause = exc.__cause__ if isinstance(exc, marks.SearchError) else None
        error = cause if isinstance(cause, Exception) else exc
        if has_conflict(error):
            self._conflicts += 1
            if self._conflicts > _CONFLICTS:
                return None
            logger.info("%s is repeated, as its transaction was in conflict: %r", self._name, error)
            longest = min(_CONFLICT_PAUSE * (1 << self._conflicts), _LONGEST_CONFLICT_PAUSE)
            return longest * random.random()  # noqa: S311
        if not (
            isinstance(error, marks.NoAnswerError) or (is_of_database(error) and is_away(error))
        ):
            return None
        self._losses = self._losses + 1 if has_answered else 0
        if self._losses > _LOSSES:
            exc.add_note(
                f"The connection to the database was lost {self._losses} times in a row while "
                f"{self._name} ran, and the server answers in between. Perhaps a statement or the "
                "result is larger than the server takes (max_allowed_packet), or a limit of the "
                "server ends the transaction."
            )
            return None
        return self._retrying.failed(error)

    def ended(self) -> None:
        """Note that a try has succeeded."""
        self._retrying.succeeded()


async def _stored(database: Database, call: OnceCall) -> marks.Stored | None:
    return None if call.task_id is None else await marks.find_mark(database, call.task_id)


async def _stored_meanwhile(database: Database, call: OnceCall) -> marks.Stored | None:
    try:
        return await _stored(database, call)
    except Exception as exc:  # noqa: BLE001 (what the body has raised is the error of the task)
        logger.debug("Cannot look for the mark of %s: %r", call.name, exc)
        return None


async def _attempt(database: Database, session: AsyncSession, call: OnceCall) -> object:
    sync = session.sync_session
    assert isinstance(sync, TaskSession)  # noqa: S101 (db makes no others)
    sync.refusal = _REFUSAL
    try:
        value = call.dump(await call.body())
    finally:
        sync.refusal = None
    if sync.undone is not None:
        # The body has caught it, and what it had done before is not there any more.
        raise sync.undone
    if call.task_id is None:
        await _to_the_end(session.commit())
        return value
    mark = marks.mark_of(call.task_id, value, call.serializer)
    # What is wrong with the task's own rows is raised here, not taken for a mark that exists; and they
    # may take as long as they take.
    if sync.new or sync.dirty or sync.deleted:
        await session.flush()
    try:
        is_first = await _to_the_end(session.run_sync(marks.commit_with, mark))
    except Exception as exc:
        if not is_away(exc):
            raise
        await _roll_back(session)
        if not await _was_committed(database, call, mark):
            raise
        logger.info("%s was committed, although the connection was lost meanwhile", call.name)
        return value
    if is_first:
        return value
    await _roll_back(session)
    logger.info("%s was delivered again and has run before", call.name)
    stored = await _stored(database, call)
    assert stored is not None  # noqa: S101 (marks are deleted after days)
    return stored.value


async def _was_committed(database: Database, call: OnceCall, mark: marks.Mark) -> bool:
    """Whether a transaction whose commit was not answered has been committed.

    The same mark is written again, in a transaction that is rolled back: it waits for the other one,
    should that still be open on the server, and fails if that was committed.
    """

    async def write() -> bool:
        async with database.scope():
            return not await marks.write_mark(database.session, mark)

    retrying = Retrying(
        Outage(f"see whether {call.name} was committed", "the database", logger),
        is_away=lambda exc: is_away(exc) or has_conflict(exc),
    )
    return await retrying.run_async(write)


async def _to_the_end(coro: Coroutine[object, Never, T]) -> T:
    """Await what must not be interrupted: a commit of which nobody knows whether it has happened.

    A time limit that passes meanwhile comes too late for the body, which has returned.
    """
    task = asyncio.ensure_future(coro)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + marks.ANSWER_SECONDS
    while not task.done():
        try:
            await asyncio.wait([task], timeout=max(deadline - loop.time(), 0))
        except BaseException:
            if loop.time() > deadline:
                task.cancel()
                raise
        if not task.done() and loop.time() >= deadline:
            for _ in range(_CANCELLATIONS):
                task.cancel()
                await asyncio.wait([task], timeout=_ROLLBACK_SECONDS)
            raise marks.NoAnswerError(
                f"The database has not answered a commit for {marks.ANSWER_SECONDS:g} s"
            )
    return task.result()


async def _roll_back(session: AsyncSession) -> None:
    try:
        async with asyncio.timeout(_ROLLBACK_SECONDS):
            await session.rollback()
    except Exception as exc:  # noqa: BLE001 (the connection is gone, and with it the transaction)
        logger.debug("The connection is dropped, as it cannot be rolled back: %r", exc)
        await session.invalidate()
    session.expunge_all()
