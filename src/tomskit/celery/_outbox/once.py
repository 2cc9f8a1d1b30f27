"""once=True: the body of a task in one transaction, which is committed with a mark of the task's id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Never, TypeVar

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tomskit.celery._client.retrying import Outage, Retrying
from tomskit.celery._outbox import marks
from tomskit.celery._outbox.databases import committing
from tomskit.celery._outbox.repeats import Repeats, cause_of
from tomskit.sqlalchemy.away import has_conflict, is_away, is_refused_after_another
from tomskit.sqlalchemy.cutting import cut
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.sessions import TaskSession
from tomskit.sqlalchemy.tracked import wait_for_users

__all__ = ("OnceCall", "run_once")

T = TypeVar("T")

logger: Final = logging.getLogger(__name__)

_ROLLBACK_SECONDS: Final = 5.0


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
    session = database.session
    sync = session.sync_session
    assert isinstance(sync, TaskSession)  # noqa: S101 (db makes no others)
    repeats = Repeats(call.name, database)
    committing.set(database)
    try:
        while True:
            has_answered = False
            try:
                if (stored := await _stored(database, call)) is not None:
                    return stored.value
                has_answered = True
                result = await _attempt(database, session, sync, call)
            except _UnknownCommitError as exc:
                await _roll_back(session)
                raise exc.error from exc.error.__cause__
            except Exception as exc:
                cause = cause_of(exc, sync.conflict)
                await _roll_back(session)
                if await repeats.wait_after(cause, has_answered=has_answered):
                    continue
                # Another delivery may have run meanwhile, and this one was in its way.
                if (
                    has_answered
                    and (stored := await _stored_meanwhile(database, call, exc)) is not None
                ):
                    return stored.value
                raise
            repeats.succeeded()
            return result
    finally:
        repeats.end()


class _UnknownCommitError(Exception):
    """A call without a mark was committed, or was not: nobody knows."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


async def _stored(database: Database, call: OnceCall) -> marks.Stored | None:
    return None if call.task_id is None else await marks.find_mark(database, call.task_id)


async def _stored_meanwhile(
    database: Database, call: OnceCall, error: Exception
) -> marks.Stored | None:
    try:
        if isinstance(error, IntegrityError) and call.task_id is not None:
            return await marks.find_mark_surely(database, call.task_id)
        return await _stored(database, call)
    except Exception as exc:  # noqa: BLE001 (what the body has raised is the error of the task)
        logger.debug("Cannot look for the mark of %s: %r", call.name, exc)
        return None


async def _attempt(
    database: Database, session: AsyncSession, sync: TaskSession, call: OnceCall
) -> object:
    sync.refusal = _REFUSAL
    try:
        value = call.dump(await call.body())
        # Coroutines that it has left running begin no statements any more.
        sync.finisher = asyncio.current_task()
        await wait_for_users(session)
        return await _finish(database, session, sync, call, value)
    finally:
        sync.refusal = sync.finisher = None


async def _finish(
    database: Database, session: AsyncSession, sync: TaskSession, call: OnceCall, value: object
) -> object:
    if sync.lost is not None:
        # The body has caught it.
        raise sync.lost
    if sync.conflict is not None:
        # The body has caught it, and perhaps what it had done before is not there any more.
        await session.run_sync(lambda _: sync.check_whole())
    # What is wrong with the task's own rows is raised here, not taken for a mark that exists; and they
    # may take as long as they take.
    if sync.new or sync.dirty or sync.deleted:
        await session.flush()
    if call.task_id is None:
        await _commit_without_mark(session, sync, call)
        return value
    mark = marks.mark_of(call.task_id, value, call.serializer)
    try:
        duplicate = await _to_the_end(session, sync, lambda: marks.commit_with(sync, mark))
    except Exception as exc:
        if not is_away(exc):
            _explain(exc)
            raise
        await _roll_back(session)
        if not await _was_committed(database, call, mark):
            raise
        logger.info("%s was committed, although the connection was lost meanwhile", call.name)
        return value
    if duplicate is None:
        return value
    await _roll_back(session)
    stored = await marks.find_mark_surely(database, call.task_id)
    if stored is None:
        # The table refuses the mark, and not because it is there.
        raise duplicate
    logger.info("%s was delivered again and has run before", call.name)
    return stored.value


def _explain(error: Exception) -> None:
    if is_refused_after_another(error):
        error.add_note(
            "A statement of the body has failed, the body has caught its error, and PostgreSQL then takes no "
            "others. Surround one that may fail with async with db.session.begin_nested()."
        )


async def _commit_without_mark(session: AsyncSession, sync: TaskSession, call: OnceCall) -> None:
    try:
        await _to_the_end(session, sync, lambda: marks.commit(sync))
    except Exception as exc:
        if not is_away(exc):
            raise
        exc.add_note(
            f"{call.name} was called without a message and so has no mark, which would tell whether it was "
            "committed before the connection to the database was lost. It is not repeated."
        )
        raise _UnknownCommitError(exc) from exc


async def _was_committed(database: Database, call: OnceCall, mark: marks.Mark) -> bool:
    """Whether a transaction whose commit was not answered has been committed.

    The same mark is written again, in a transaction that is rolled back: it waits for the other one,
    should that still be open on the server, and fails if that was committed.
    """

    async def write() -> bool:
        async with database.scope():
            return await marks.write_mark(database.session, mark) is not None

    retrying = Retrying(
        Outage(f"see whether {call.name} was committed", "the database", logger),
        is_away=lambda exc: is_away(exc) or has_conflict(exc),
    )
    return await retrying.run_async(write)


async def _to_the_end(session: AsyncSession, sync: TaskSession, commit: Callable[[], T]) -> T:
    """Await what must not be interrupted: a commit of which nobody knows whether it has happened.

    A time limit that passes meanwhile comes too late for the body, which has returned.
    """
    sync.finisher = task = asyncio.ensure_future(session.run_sync(lambda _: commit()))
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
            await cut(task, seconds=_ROLLBACK_SECONDS)
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
