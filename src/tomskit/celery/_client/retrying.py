"""Retrying: an operation tried again while its server is away, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

__all__ = ("Retrying", "pauses_of")

R = TypeVar("R")

_PATIENT_PAUSE: Final = 0.5
"""Seconds between two tries of an operation that is retried until the server returns."""

_REMINDER_SECONDS: Final = 60.0
"""How often the log says that the server is still away."""


class Retrying:
    """Decides after each failure of an operation whether and when to try it again.

    The log has a line when the first try has failed, one a minute during the retries, and one when the
    operation has succeeded.

    Args:
        what: The operation, as the log names it: "publish a task".
        server: The server, as the log names it: "the broker".
        is_away: Whether an error means that the server is away, so that a retry may help.
        pauses: Seconds before each retry. The error is raised when there are no more; None retries
            until the server returns.
        logger: Writes the lines.
        given_up: When it is set, the next error is raised.
    """

    def __init__(
        self,
        what: str,
        server: str,
        *,
        is_away: Callable[[Exception], bool],
        pauses: Iterator[float] | None = None,
        logger: logging.Logger,
        given_up: threading.Event | None = None,
    ) -> None:
        self._what = what
        self._server = server
        self._is_away = is_away
        self._pauses = itertools.repeat(_PATIENT_PAUSE) if pauses is None else pauses
        self._logger = logger
        self._given_up = given_up
        self._since: float | None = None
        self._reminded_at = 0.0

    def failed(self, exc: Exception) -> float:
        """Note that a try has failed.

        Returns:
            Seconds to wait before the next one.

        Raises:
            Exception: `exc`, if there is no other try.
        """
        given_up = self._given_up is not None and self._given_up.is_set()
        pause = None if given_up or not self._is_away(exc) else next(self._pauses, None)
        if pause is None:
            raise exc
        now = time.monotonic()
        if self._since is None:
            self._since = self._reminded_at = now
            self._logger.warning(
                "Cannot %s; retrying while %s is away: %r", self._what, self._server, exc
            )
        elif now - self._reminded_at >= _REMINDER_SECONDS:
            self._reminded_at = now
            self._logger.warning(
                "Still cannot %s, after %.0f s: %r", self._what, now - self._since, exc
            )
        return pause

    def succeeded(self) -> None:
        """Note that a try has succeeded, or that the server has answered."""
        if self._since is not None:
            self._logger.info(
                "%s is back after %.1f s", self._server.capitalize(), time.monotonic() - self._since
            )
            self._since = None

    def run(self, operation: Callable[[], R], sleep: Callable[[float], object] | None = None) -> R:
        """Call `operation` until it succeeds or is not to be tried again.

        Args:
            operation: Blocks, or waits in a greenlet.
            sleep: Waits between two tries; a blocking pause by default.
        """
        while True:
            try:
                result = operation()
            except Exception as exc:  # noqa: BLE001 (`failed` raises it where it is not to be retried)
                pause = self.failed(exc)
            else:
                self.succeeded()
                return result
            (sleep or self._sleep)(pause)

    async def run_async(
        self,
        operation: Callable[[], Awaitable[R]],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> R:
        """Await what `operation` returns until it succeeds or is not to be tried again."""
        while True:
            try:
                result = await operation()
            except Exception as exc:  # noqa: BLE001 (as above)
                pause = self.failed(exc)
            else:
                self.succeeded()
                return result
            await sleep(pause)

    def _sleep(self, seconds: float) -> None:
        if self._given_up is None:
            time.sleep(seconds)
        else:
            self._given_up.wait(seconds)


def pauses_of(
    *,
    max_retries: int | None = None,
    interval_start: float = 2,
    interval_step: float = 2,
    interval_max: float = 30,
    **_: object,
) -> Iterator[float]:
    """Seconds before each retry, by a retry policy as kombu takes it: longer each time."""
    longest = interval_start + interval_max
    longer = (min(interval_start + interval_step * tries, longest) for tries in itertools.count())
    return longer if max_retries is None else itertools.islice(longer, max_retries)
