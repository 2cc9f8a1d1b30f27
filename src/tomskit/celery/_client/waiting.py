"""How long a thread waits for results whose server does not answer: not much longer than it was told to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from celery.exceptions import TimeoutError as CeleryTimeoutError
from redis.exceptions import RedisError

from tomskit.celery._client.seconds import check_seconds
from tomskit.celery._internals.celery_backend import is_redis_backend
from tomskit.celery.fast_redis.deadlines import SECONDS
from tomskit.redis.away import ServerAwayError, is_away

if TYPE_CHECKING:
    from tomskit.celery._internals.celery_backend import RedisBackend
    from tomskit.celery._internals.redis_connections import BlockingConnection

__all__ = ("log_in", "reading", "results_away", "time_left", "until_the_end", "waiting")

_ALMOST: Final = 0.9


class _Wait(NamedTuple):
    begun: float
    seconds: float

    @property
    def left(self) -> float:
        return self.begun + self.seconds - time.monotonic()


_wait: Final[ContextVar[_Wait | None]] = ContextVar("tomskit_wait", default=None)


class waiting:  # noqa: N801 (used as a context manager)
    """Try nothing again, in this thread, when so many seconds have passed; None has no limit.

    Not a generator: that of contextlib sets attributes of what comes through, and an error of a task may refuse it.
    """

    def __init__(self, seconds: float | None) -> None:
        check_seconds("timeout", seconds)
        self._seconds = seconds

    def __enter__(self) -> None:
        seconds = self._seconds
        self._token = _wait.set(None if seconds is None else _Wait(time.monotonic(), seconds))

    def __exit__(self, *_: object) -> None:
        _wait.reset(self._token)


def time_left() -> float | None:
    """How many seconds this thread may still wait for results; None where it has no limit, or does not wait."""
    wait = _wait.get()
    return None if wait is None else wait.left


def until_the_end(pauses: Iterator[float]) -> Iterator[float]:
    """Pauses between tries, while there is time for them.

    Raises:
        celery.exceptions.TimeoutError: There is none left, and what was left is over.
    """
    for pause in pauses:
        wait = _wait.get()
        # Another connection may be made at once, in place of one that was lost.
        if wait is not None and pause > 0 and wait.left <= pause:
            time.sleep(max(wait.left, 0.0))
            raise CeleryTimeoutError("The operation timed out.")
        yield pause


def log_in(connection: BlockingConnection) -> None:
    """Do what redis-py does on a new connection, unless a silent server has used up the time.

    Raises:
        celery.exceptions.TimeoutError: It has.
    """
    wait, now = _wait.get(), time.monotonic()
    patience = connection.socket_timeout or SECONDS
    # Who has no time at all, and asks for what is there already, may connect once.
    if wait is not None and wait.left <= 0 and now - wait.begun >= patience * _ALMOST:
        connection.disconnect()
        raise CeleryTimeoutError("The operation timed out.")
    # Else the first command would be a health check, with retries of its own, each of which takes the timeout.
    connection.next_health_check = now + connection.health_check_interval
    connection.on_connect()


class reading:  # noqa: N801 (used as a context manager)
    """Raise one error where a backend for Redis cannot be asked, whichever redis-py raises.

    Not a generator either.

    Raises:
        ServerAwayError: Its server is away.
    """

    def __init__(self, backend: object) -> None:
        self._backend = backend

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if not isinstance(error, (RedisError, OSError)) or isinstance(error, ServerAwayError):
            return
        backend = self._backend
        if is_redis_backend(backend) and is_away(error):
            raise results_away(backend, error) from error


def results_away(backend: RedisBackend, reason: Exception) -> ServerAwayError:
    """The error of whoever waits for a result while the backend's server is away."""
    return ServerAwayError(f"Results cannot be waited for: {backend.as_uri()} is away. {reason}")
