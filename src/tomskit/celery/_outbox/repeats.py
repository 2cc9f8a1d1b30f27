"""Repeats: whether and when the body of a task with once=True is repeated, after an error of the database."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final
from weakref import WeakKeyDictionary

from celery.exceptions import TaskPredicate

from tomskit.celery._client.retrying import Outage, Retrying
from tomskit.celery._outbox import marks
from tomskit.sqlalchemy.away import (
    has_conflict,
    is_away,
    is_of_database,
    is_read_only,
    is_refused_after_another,
)
from tomskit.sqlalchemy.database import Database

__all__ = ("LOSSES", "Repeats", "cause_of")

logger: Final = logging.getLogger(__name__)

_CONFLICTS: Final = 10
"""How many times a body is repeated because of other transactions."""
_CONFLICT_PAUSE: Final = 0.05
_LONGEST_CONFLICT_PAUSE: Final = 1.6
_LONGEST_TURN: Final = 20.0
"""Seconds after which one that is being repeated holds up no other. PostgreSQL needs one to find a deadlock, and
fifty that want the same two rows get into some before the first of them ends."""

LOSSES: int = 10
"""How many times in a row a body is repeated because its connection was lost, by a server that answers."""


def cause_of(error: Exception, conflict: Exception | None) -> Exception:
    """The error that decides whether a body is repeated, of what it has raised.

    Args:
        error: What the body has raised, or its commit.
        conflict: The last error of its transaction that was the fault of another one.
    """
    if isinstance(error, TaskPredicate):
        return error
    if isinstance(error, marks.SearchError):
        return error.__cause__ if isinstance(error.__cause__, Exception) else error
    if conflict is None:
        return error
    if is_refused_after_another(error):
        return conflict
    # The body may have raised an error of its own because of it.
    reason: BaseException | None = error
    while reason is not None and reason is not conflict:
        reason = reason.__cause__ or reason.__context__
    return error if reason is None else conflict


class Repeats:
    """Waits until a body may be repeated after an error of the database.

    Of the bodies that have lost against others, those of one event loop are repeated one after the other:
    all at once they would be in each other's way again.

    Args:
        name: The task's name and id, for log lines.
        database: Where it has its effects.
    """

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._turn: _Turn | None = None
        self._conflicts = 0
        self._losses = 0
        self._retrying = Retrying(
            Outage(f"commit {name}", "the database", logger), is_away=lambda _: True
        )

    async def wait_after(self, error: Exception, *, has_answered: bool) -> bool:
        """Wait before the body is repeated; returns False, at once, if it is not to be.

        Args:
            error: Why it has failed.
            has_answered: Whether the database had answered before.
        """
        if has_conflict(error):
            self._conflicts += 1
            if self._conflicts > _CONFLICTS:
                return False
            logger.info("%s is repeated, as its transaction was in conflict: %r", self._name, error)
            longest = min(_CONFLICT_PAUSE * (1 << self._conflicts), _LONGEST_CONFLICT_PAUSE)
            await self._take_turn()
            await asyncio.sleep(longest * random.random())  # noqa: S311
            return True
        self.end()
        if not (
            isinstance(error, marks.NoAnswerError) or (is_of_database(error) and is_away(error))
        ):
            return False
        self._losses = self._losses + 1 if has_answered and not is_read_only(error) else 0
        if self._losses > LOSSES:
            error.add_note(
                f"The connection to the database was lost {self._losses} times in a row while "
                f"{self._name} ran, and the server answers in between. Perhaps a statement or the "
                "result is larger than the server takes (max_allowed_packet), or a limit of the "
                "server ends the transaction."
            )
            return False
        await asyncio.sleep(self._retrying.failed(error))
        return True

    def succeeded(self) -> None:
        """Note that a try has succeeded."""
        self._retrying.succeeded()

    async def _take_turn(self) -> None:
        if self._turn is not None:
            return
        mine = _turns.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
        turn = mine.setdefault(self._database, _Turn())
        if await turn.take():
            self._turn = turn

    def end(self) -> None:
        """Let others be repeated; however it has ended."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()


class _Turn:
    """One body at a time, the first that came first."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting: set[asyncio.Timeout] = set()

    async def take(self) -> bool:
        """Wait; returns False if the one whose turn it is takes too long."""
        patience = asyncio.timeout(_LONGEST_TURN)
        try:
            async with patience:
                self._waiting.add(patience)
                await self._lock.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(patience)
        return True

    def end(self) -> None:
        """Let the next one begin, for which the others wait from now on."""
        self._lock.release()
        deadline = asyncio.get_running_loop().time() + _LONGEST_TURN
        for patience in self._waiting:
            if not patience.expired():
                patience.reschedule(deadline)


_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Database, _Turn]]] = (
    WeakKeyDictionary()
)
