"""Results in a database: nobody waits without end for one that does not answer, and workers keep their connections.

Celery's backend waits as long as the driver does, and drivers of synchronous code have no limit of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final

from celery.backends.database import DatabaseBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.utils.imports import symbol_by_name
from sqlalchemy import Dialect, Engine, event, make_url
from sqlalchemy.pool import NullPool
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.kept_sessions import kept_sessions
from tomskit.celery._client.waiting import time_left
from tomskit.celery._internals.celery_database import SessionManager, are_celerys_sessions
from tomskit.celery._running.event_loop import loop_runs_here
from tomskit.celery._running.forks import ForkLock
from tomskit.celery.fast_redis.deadlines import SECONDS

__all__ = ("LimitedDatabaseBackend",)

_ALMOST: Final = 0.9

_TURN_SECONDS: Final = 0.5
"""How long a thread waits for another one that connects. What takes longer waits for a server."""

_CONNECTING: Final[Mapping[str, str]] = {
    "mariadbconnector": "connect_timeout",
    "mysqlconnector": "connection_timeout",
    "mysqldb": "connect_timeout",
    "oracledb": "tcp_connect_timeout",
    "pg8000": "timeout",
    "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
}
"""The argument by which each driver limits how long connecting takes, in whole seconds."""

_ANSWERING: Final[Mapping[str, tuple[str, ...]]] = {
    "mariadbconnector": ("read_timeout", "write_timeout"),
    "mysqldb": ("read_timeout", "write_timeout"),
    "pymysql": ("read_timeout", "write_timeout"),
}
"""Those by which it limits how long it waits for an answer, the one to the login included."""


_UNTIL_DEAD: Final[Mapping[str, Mapping[str, int]]] = {
    driver: {
        "keepalives_idle": int(SECONDS),
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": int(SECONDS * 1000),
    }
    for driver in ("psycopg", "psycopg2")
}
"""Those of drivers that wait for an answer as long as the system takes the connection for alive."""


class LimitedDatabaseBackend(DatabaseBackend):
    """Celery's result backend for databases, whose connections are given up when the server is silent.

    In a worker they are used again, with drivers for MySQL, which have limits for that.

    What the URL or ``database_engine_options`` say of time-outs, and a ``database_engine_callback``, stand.
    """

    app: AsyncApp
    session_manager: SessionManager
    url: str
    _is_made = False
    _may_keep = False

    def __init__(self, *args: Any, app: Any, **options: Any) -> None:
        own: Any = options.pop("engine_callback", app.conf.database_engine_callback)
        if isinstance(own, str):
            own = symbol_by_name(own)
        super().__init__(*args, app=app, engine_callback=partial(_limit, own), **options)
        self._is_made = True
        self._may_keep = _answers_in_time(self.url)

    @override
    def ResultSession(self, session_manager: Any = None) -> Any:
        """A session, in which the tables are there; as of Celery's backend."""
        if not self._is_made and loop_runs_here():
            # Celery makes the tables in the end of `__init__`, and in any case before it uses them.
            return None
        if self._may_keep and self.app.pool_backend is not None:
            self._may_keep = False
            # Those of another package may have their reasons.
            if are_celerys_sessions(self.session_manager):
                callback = self.session_manager.engine_callback
                self.session_manager = kept_sessions(self.app, callback)
        return super().ResultSession(*(() if session_manager is None else (session_manager,)))


def _answers_in_time(url: str) -> bool:
    """Whether the driver gives up a connection that was open before the server fell silent.

    One that is kept would be waited for without end otherwise.
    """
    return make_url(url).get_driver_name() in _ANSWERING


def _limit(own: Callable[[Engine], object] | None, engine: Engine) -> None:
    def on_connect(
        dialect: Dialect, _entry: object, arguments: list[Any], options: dict[str, Any]
    ) -> object:
        limiting = _CONNECTING.get(dialect.driver)
        if limiting is None:
            return None
        is_kept = not isinstance(engine.pool, NullPool)
        seconds, is_last = _seconds_to_connect()
        options.setdefault(limiting, max(1, round(seconds)))
        for name in _ANSWERING.get(dialect.driver, ()):
            # One that is kept serves others, who have more time.
            longest = SECONDS if is_kept else seconds
            options.setdefault(name, max(1, round(longest)))
        for name, value in _UNTIL_DEAD.get(dialect.driver, {}).items():
            options.setdefault(name, value)
        with _turn() if is_kept else nullcontext():
            begun = time.monotonic()
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.Error as exc:
                # The URL may say another one, or none at all by a 0.
                limit = min(seconds, float(options[limiting]) or seconds)
                if time.monotonic() - begun < limit * _ALMOST:
                    raise
                if is_last:
                    raise _out_of_time() from exc
                # No error of the database's: Celery would try it again some forty times, each of which takes as long.
                raise ConnectionError(
                    f"The database of the results, {engine.url!r}, does not answer: {exc}"
                ) from exc

    event.listen(engine, "do_connect", on_connect)
    if own is not None:
        own(engine)


_connecting: Final = ForkLock(is_brief=False)


@contextmanager
def _turn() -> Generator[None]:
    """Connect one after the other, so that other threads run in between, such as that of an event loop.

    PyMySQL keeps the interpreter for itself while it loads certificates.
    """
    is_mine = _connecting.take(_TURN_SECONDS)
    try:
        yield
    finally:
        if is_mine:
            _connecting.give()


def _seconds_to_connect() -> tuple[float, bool]:
    """How long to wait for a connection, and whether there is no time left afterwards.

    Raises:
        celery.exceptions.TimeoutError: There is none any more.
    """
    left = time_left()
    if left is None or left > SECONDS:
        return SECONDS, False
    if left <= 0:
        raise _out_of_time()
    return left, True


def _out_of_time() -> CeleryTimeoutError:
    return CeleryTimeoutError("The operation timed out.")
