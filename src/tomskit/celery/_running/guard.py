"""Guard: a coroutine under time limits, interrupted at its await, cleaned up, or abandoned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from tomskit.celery._running.steering import Limits

__all__ = ("CLEANUP_SECONDS", "Guard", "Guarded")

logger: Final = logging.getLogger(__name__)

CLEANUP_SECONDS: Final = 5.0
"""How long a cancelled coroutine has for its ``finally`` blocks before it is abandoned."""


class Guarded(Protocol):
    """Runs a coroutine under a guard, which calls these methods."""

    @property
    def name(self) -> str:
        """The task's name and id, for log lines."""
        ...

    def cancel(self) -> None:
        """Cancel the coroutine at its await, if it is at one."""

    def on_soft_limit(self, seconds: float) -> None:
        """The soft time limit has passed; interrupts the coroutine."""

    def on_hard_limit(self, seconds: float) -> None:
        """The hard time limit has passed; ends the coroutine."""

    def on_abandoned(self) -> None:
        """The coroutine did not end in time: close it, and report that it is over."""


class Guard:
    """Interrupts and ends the coroutine of one task, on its event loop.

    It has no reference to its owner: such a cycle would keep the objects of a task alive until Python
    searches for cycles. So each call names the owner.

    Attributes:
        pending: What the next cancellation is to be, at the await where it arrives.
        given_up: The coroutine is not run any further, whatever it does.
        ended: It was told to end: it may clean up, and what it raises is not its outcome.
    """

    __slots__ = ("_loop", "_timers", "ended", "given_up", "pending")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pending: BaseException | None = None
        self.given_up: bool = False
        self.ended: bool = False
        self._loop = loop
        self._timers: tuple[asyncio.TimerHandle, ...] = ()

    def enforce(self, limits: Limits, owner: Guarded) -> None:
        """Tell `owner` when its time limits have passed, counted from now."""
        if limits.soft is not None:
            self._later(limits.soft, partial(owner.on_soft_limit, limits.soft))
        if limits.hard is not None:
            self._later(limits.hard, partial(owner.on_hard_limit, limits.hard))

    def interrupt(self, exc: BaseException, owner: Guarded) -> None:
        """Raise `exc` in the coroutine, at its await."""
        self.pending = exc
        owner.cancel()

    def end(self, owner: Guarded) -> None:
        """Cancel the coroutine, and abandon it when it takes too long to clean up."""
        if not self.ended:
            self.ended = True
            self.pending = None
            owner.cancel()
            self._later(CLEANUP_SECONDS, partial(self._abandon, owner))

    def take_pending(self) -> BaseException | None:
        """What was to interrupt the coroutine and has not reached it."""
        pending, self.pending = self.pending, None
        return pending

    def raised(self, exc: BaseException) -> BaseException:
        """What a coroutine was interrupted with, where a provider made it wait; else `exc`."""
        if self.pending is not None and isinstance(exc, asyncio.CancelledError):
            pending = self.take_pending()
            return exc if pending is None else pending
        return exc

    def stop(self) -> None:
        """Enforce nothing any more: the task has ended."""
        if self._timers:
            for timer in self._timers:
                timer.cancel()
            self._timers = ()

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        self._timers += (self._loop.call_later(seconds, call),)

    def _abandon(self, owner: Guarded) -> None:
        self.given_up = True
        try:
            logger.critical(
                "%s did not end within %ss of its cancellation and is abandoned",
                owner.name,
                CLEANUP_SECONDS,
            )
        finally:
            # Also where a handler of the application's fails.
            owner.on_abandoned()
