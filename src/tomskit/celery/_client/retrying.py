"""Retrying: an operation tried again while its server is away, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from celery.exceptions import BackendStoreError
from kombu.exceptions import OperationalError

from tomskit.celery._running.forks import ForkLock
from tomskit.celery.fast_redis.deadlines import UnansweredError
from tomskit.redis.away import as_python_shows, is_refused
from tomskit.redis.away import is_away as redis_is_away

if TYPE_CHECKING:
    from celery.app.utils import Settings
    from celery.backends.base import Backend

    from tomskit.celery._app import AsyncApp

__all__ = (
    "Outage",
    "Reminder",
    "Retrying",
    "is_away",
    "pauses_of",
    "publish_pauses",
    "retry_stores",
)

R = TypeVar("R")

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries of an operation that is retried until the server returns."""

_NEW_CONNECTIONS: Final = 2
"""How many new connections a server may leave without an answer, one after the other, where it is not waited for."""
_LEAST_SILENCE: Final = 12.0
"""Seconds for which it is waited for at least: some are back after ten, and timeouts may be short."""
_EARLY: Final = 0.1
"""Which part of a timeout timers may be early."""

_REMINDER_SECONDS: Final = 60.0
"""How often the log says that the server is still away."""


def is_away(error: Exception) -> bool:
    """Whether an error means that a broker or a result backend is away.

    Also of kombu's error that stands for one of another library.
    """
    if isinstance(error, OperationalError):
        cause = error.__cause__
        return not isinstance(cause, Exception) or is_away(cause)
    if isinstance(error, AMQPError):
        return not isinstance(error, (AccessRefused, NotAllowed))
    return redis_is_away(error)


_changing: Final = ForkLock(is_brief=False)
"""Held while an outage is noted. A signal handler may meet another failure, in the middle of one."""


class Reminder:
    """Tells when to write a line about what lasts: at once where it is new, and then once a minute."""

    def __init__(self) -> None:
        self._last = -math.inf

    def is_due(self, now: float, *, is_new: bool) -> bool:
        """Whether to write a line, which is then the last one.

        Args:
            now: The time, in seconds of ``time.monotonic``.
            is_new: Whether something has changed.
        """
        is_due = is_new or now - self._last >= _REMINDER_SECONDS
        if is_due:
            self._last = now
        return is_due


class Outage:
    """Tells the log that a server is away: when that begins, once a minute, and when it is over.

    Operations of the same kind share one, from any thread.

    Args:
        what: What cannot be done meanwhile, as the log names it: "publish a task".
        server: The server, as the log names it: "the broker".
        logger: Writes the lines.
    """

    def __init__(self, what: str, server: str, logger: logging.Logger) -> None:
        self._what = what
        self._server = server
        self._logger = logger
        self._since: float | None = None
        self._reminder = Reminder()
        self._refused = False

    @property
    def lasts(self) -> bool:
        """Whether the server is away."""
        return self._since is not None

    def failed(self, exc: Exception) -> None:
        """Note that the server was away, or has refused it."""
        now, refused = time.monotonic(), is_refused(exc)
        with _changing:
            refuses = refused and not self._refused
            begins = self._since is None
            since = now if self._since is None else self._since
            self._since = since
            self._refused |= refused
            reminds = self._reminder.is_due(now, is_new=begins or refuses)
        if refuses:
            self._logger.error(
                "Cannot %s; retrying while %s refuses it: %s. Check the user, the password and what the "
                "user may do (ACL SETUSER).",
                self._what,
                self._server,
                as_python_shows(exc),
            )
        elif begins:
            self._logger.warning(
                "Cannot %s; retrying while %s is away: %s",
                self._what,
                self._server,
                as_python_shows(exc),
            )
        elif reminds:
            self._logger.warning(
                "Still cannot %s, after %.0f s: %s", self._what, now - since, as_python_shows(exc)
            )

    def ended(self) -> None:
        """Note that the server has answered."""
        if not self.lasts:
            return
        with _changing:
            since = self._since
            self._since, self._refused = None, False
        if since is not None:
            self._logger.info(
                "%s is back after %.1f s", self._server.capitalize(), time.monotonic() - since
            )


class Retrying:
    """Decides after each failure of an operation whether and when to try it again.

    Args:
        outage: Tells the log when the server is away.
        is_away: Whether an error means that the server is away, so that a retry may help.
        pauses: Seconds before each retry. The error is raised when there are no more; None retries
            until the server returns.
        given_up: When it is set, the next error is raised.
        timeout: Seconds in which the server is to answer a new connection. If it has left two of them in a
            row without an answer, for twice as long in all, or 12 s where that is longer, the error is raised:
            each takes the whole timeout, so that all of the retries would last many times as long as for a
            server that refuses connections. None has no such limit.
        connections: How many connections were not answered, one after the other, where one try has failed so.
        is_unanswered: Whether an error means that.
    """

    def __init__(
        self,
        outage: Outage,
        *,
        is_away: Callable[[Exception], bool] = is_away,
        pauses: Iterator[float] | None = None,
        given_up: threading.Event | None = None,
        timeout: float | None = None,
        connections: int = 1,
        is_unanswered: Callable[[Exception], bool] = lambda exc: isinstance(exc, UnansweredError),
    ) -> None:
        self._timeout = timeout
        self._connections = connections
        self._is_unanswered = is_unanswered
        self._unanswered = 0
        self._unanswered_since = 0.0
        self._outage = outage
        self._is_away = is_away
        self._pauses = _patient_pauses() if pauses is None else pauses
        self._given_up = given_up

    def failed(self, exc: Exception) -> float:
        """Note that a try has failed.

        Returns:
            Seconds to wait before the next one.

        Raises:
            Exception: `exc`, if there is no other try.
        """
        given_up = self._given_up is not None and self._given_up.is_set()
        may_return = self._is_away(exc) and not self._stays_silent(exc)
        pause = next(self._pauses, None) if may_return and not given_up else None
        if pause is None:
            raise exc
        self._outage.failed(exc)
        return pause

    def _stays_silent(self, exc: Exception) -> bool:
        if self._timeout is None:
            return False
        if not self._is_unanswered(exc):
            self._unanswered = 0
            return False
        now = time.monotonic()
        if not self._unanswered:
            # The first ones have had their time before.
            self._unanswered_since = now - self._timeout * self._connections
        self._unanswered += self._connections
        longest = max(self._timeout * _NEW_CONNECTIONS, _LEAST_SILENCE) - self._timeout * _EARLY
        return self._unanswered >= _NEW_CONNECTIONS and now - self._unanswered_since >= longest

    def succeeded(self) -> None:
        """Note that a try has succeeded, or that the server has answered."""
        self._outage.ended()

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


def retry_stores(
    app: AsyncApp,
    backend: Backend,
    outage: Outage,
    *,
    stops: Callable[[], bool],
    stopped: Callable[[], bool] | None = None,
) -> Retrying:
    """Retries an operation that stores a task's state until the result backend returns.

    Also while it refuses them: a task that has succeeded does not fail because of that.

    Args:
        app: The worker's.
        backend: Knows which of its errors may go away.
        outage: Tells the log.
        stops: Whether the worker is stopping: it does not wait for a server that refuses it.
        stopped: Whether to give up when the operation has failed.
    """

    def may_return(exc: Exception) -> bool:
        if stopped is not None and stopped():
            return False
        if is_away(exc) or _is_away_database(exc):
            return True
        if is_refused(exc):
            # Whoever has changed the password or the permissions may put them right.
            return not stops()
        # kombu counts it as a lost connection to Redis: "any that escapes".
        return not isinstance(exc, KeyError) and backend.exception_safe_to_retry(exc)

    return Retrying(outage, is_away=may_return, given_up=app.async_client.given_up)


def _is_away_database(error: Exception) -> bool:
    """Whether an error means that results in a database cannot be stored now."""
    if "sqlalchemy" not in sys.modules:
        return False
    # Few programs keep their results in one, and SQLAlchemy takes long to import.
    from tomskit.sqlalchemy import away

    if isinstance(error, BackendStoreError):
        # Celery has tried three times, within a second or so.
        cause = error.__cause__ or error.__context__
        return isinstance(cause, Exception) and _is_away_database(cause)
    return away.is_of_database(error) and (away.is_away(error) or away.has_conflict(error))


def _patient_pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)


def publish_pauses(conf: Settings) -> Iterator[float]:
    """Seconds before each retry, by an app's settings for publishing.

    Also where a program first needs its results' server and that cannot be reached: it hears of that
    as soon as if the broker could not be.
    """
    policy: Mapping[str, Any] = conf.task_publish_retry_policy or {}
    return pauses_of(**policy) if conf.task_publish_retry else iter(())


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
