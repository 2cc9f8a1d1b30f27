"""Failures: how many tasks hold Celery's copy of a traceback at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ("MOST", "Failures")

MOST: Final = 50
"""How many tasks may be at their failure at once. Celery makes a copy of the traceback before it stores that,
of 0.3 MB: without a bound a thousand tasks that fail together take as many times that."""

_PATIENCE: Final = 1.0
"""Seconds after which a task goes on all the same, unless those before it wait for the result backend.

They may wait for something else: to publish a retry, or in a hook of a user's.
"""


class Failures:
    """Lets some tasks fail at once; the others wait, with their exception and without a copy of it.

    All calls are made in the event loop.

    Args:
        most: How many.
        patience: Seconds after which a task goes on, unless as many wait for the result backend.
    """

    def __init__(self, most: int = MOST, patience: float = _PATIENCE) -> None:
        self._most: Final = most
        self._patience: Final = patience
        self._failing: set[object] = set()
        self._storing = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def admits(self, task: object) -> bool:
        """Let a task fail, if there are few others."""
        if task not in self._failing and len(self._failing) >= self._most:
            return False
        self._failing.add(task)
        return True

    async def admit(self, task: object) -> None:
        """Let a task fail as soon as few others do."""
        while not self.admits(task):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(self._patience):
                    await turn
            except TimeoutError:
                if self._storing < self._most:
                    self._failing.add(task)
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._wake_next()
                raise
            finally:
                with suppress(ValueError):  # who was woken is no longer among them
                    self._waiting.remove(turn)

    @contextmanager
    def storing(self, task: object) -> Generator[None]:
        """The failure of a task is stored in this block."""
        if task not in self._failing:
            yield
            return
        self._storing += 1
        try:
            yield
        finally:
            self._storing -= 1

    def ended(self, task: object) -> None:
        """A task has ended, whether it has failed or not."""
        if task not in self._failing:
            return
        self._failing.discard(task)
        if len(self._failing) < self._most:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
