"""``db``: the session of the running task."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from typing_extensions import override

from tomskit.errors import MissingDriverError, NotInitializedError
from tomskit.sqlalchemy.config import DatabaseConfig

__all__ = ("Database", "SessionScope", "db")

logger: Final = logging.getLogger(__name__)

_EXTRAS: Final = {
    "aiomysql": "mysql",
    "pymysql": "mysql",
    "aiosqlite": "sqlite",
    "asyncpg": "postgres",
    "psycopg": "postgres",
}
_PATIENCE: Final = 30.0
"""Seconds that a session waits for a connection before that is worth a warning."""
_WAY_OUT: Final = (
    "Use it inside a task or a coroutine given to AsyncRuntime.run or AsyncTaskRunner, "
    "or open a scope yourself: async with db.scope(): ..."
)


class _PatientPool(AsyncAdaptedQueuePool):
    """Lets a session wait for a free connection as long as it takes, where SQLAlchemy's raises.

    A thousand tasks that share ten connections wait in line. How long a task may take at all is the
    matter of its time limits.
    """

    @override
    def _do_get(self) -> ConnectionPoolEntry:
        waited = 0.0
        while True:
            try:
                return super()._do_get()
            except SQLAlchemyTimeoutError:
                waited += _PATIENCE
                logger.warning(
                    "A session has been waiting for a database connection for %gs: all %d are in "
                    "use. Tasks keep theirs from the first statement to the commit, the rollback or "
                    "their end; SQLALCHEMY_POOL_SIZE and SQLALCHEMY_MAX_OVERFLOW are how many there "
                    "may be.",
                    waited,
                    self.checkedout(),
                )


# SQLAlchemy names a pool's logger after its class; these lines are still SQLAlchemy's.
_PatientPool.__module__ = AsyncAdaptedQueuePool.__module__


class _Pool:
    """What one event loop has: an engine, or the reason why there is none."""

    __slots__ = ("engine", "missing")

    def __init__(self, config: DatabaseConfig) -> None:
        self.engine: AsyncEngine | None = None
        self.missing: MissingDriverError | None = None
        options: dict[str, Any] = {**config.SQLALCHEMY_ENGINE_OPTIONS}
        if "pool_size" in options:
            options |= {"poolclass": _PatientPool, "pool_timeout": _PATIENCE}
        try:
            self.engine = create_async_engine(config.SQLALCHEMY_DATABASE_URI, **options)
        except ModuleNotFoundError as exc:
            # Tasks that never touch the database run without its driver, so this is not yet
            # an error; the first use of db.session is.
            name = (exc.name or "").partition(".")[0]
            extra = _EXTRAS.get(name)
            command = f"tomskit[{extra}]" if extra else name
            self.missing = MissingDriverError(
                f"The database URL's scheme {config.SQLALCHEMY_DATABASE_URI_SCHEME!r} needs the "
                f"package {name!r}, which is not installed: pip install '{command}'"
            )
            logger.debug("No database engine yet: %s", self.missing)

    def require(self) -> AsyncEngine:
        if self.engine is None:
            assert self.missing is not None  # noqa: S101 (one of the two is always set)
            raise self.missing
        return self.engine


class SessionScope(AbstractAsyncContextManager["SessionScope", None]):
    """What surrounds a task: at most one session, opened at first use, closed at the end."""

    __slots__ = ("_loop", "_open", "_pool", "_session", "_token")

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: _Pool) -> None:
        self._loop = loop
        self._pool = pool
        self._session: AsyncSession | None = None
        self._token: Token[SessionScope | None] | None = None
        self._open = False

    @property
    def session(self) -> AsyncSession:
        """The session of this scope."""
        if not self._open:
            raise NotInitializedError(
                "db.session was used after its task had ended, by a coroutine that the task left "
                "running. Await it in the task, or give it a session of its own: "
                "async with db.scope(): ..."
            )
        if _running_loop() is not self._loop:
            raise NotInitializedError(
                "db.session belongs to another event loop than the one that runs here, or it was "
                f"used in a plain thread. {_WAY_OUT}"
            )
        if self._session is None:
            # Objects stay readable after a commit: reloading them would be I/O in an attribute
            # access, which asyncio has no way to await.
            self._session = AsyncSession(self._pool.require(), expire_on_commit=False)
        return self._session

    @override
    async def __aenter__(self) -> Self:
        self._open = True
        self._token = _scope.set(self)
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if self._token is not None:
            _scope.reset(self._token)
        if self._session is not None:
            # Closing rolls back whatever was not committed. A cancellation that arrives now must
            # not cut it short, or the connection would go back with its transaction open.
            await asyncio.shield(asyncio.ensure_future(self._session.close()))


_scope: ContextVar[SessionScope | None] = ContextVar("tomskit_session_scope", default=None)


class Database:
    """Sessions and engines of this process, an engine for each event loop that runs tasks.

    A connection belongs to the loop that opened it, so every loop has its own pool; all tasks of
    a loop share it.
    """

    def __init__(self) -> None:
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    @property
    def session(self) -> AsyncSession:
        """The session of the running task, opened at first use.

        It is closed when the task ends and rolled back when it raises; nothing is committed for
        you. Tasks never share one; the children of ``asyncio.gather`` do share their task's, and
        a session runs one statement at a time: give concurrent children scopes of their own.

        Raises:
            NotInitializedError: Outside of a task and of ``async with db.scope()``.
            MissingDriverError: The driver that the URL names is not installed.
        """
        scope = _scope.get()
        if scope is None:
            raise NotInitializedError(f"There is no database session here. {_WAY_OUT}")
        return scope.session

    @property
    def engine(self) -> AsyncEngine:
        """The engine of the running event loop.

        Raises:
            NotInitializedError: No engine was opened for this loop.
            MissingDriverError: The driver that the URL names is not installed.
        """
        return self._pool().require()

    def scope(self) -> SessionScope:
        """A scope with a session of its own: ``async with db.scope(): ... db.session ...``.

        Raises:
            NotInitializedError: No engine was opened for the running event loop.
        """
        pool = self._pool()
        return SessionScope(asyncio.get_running_loop(), pool)

    def open(self, config: DatabaseConfig) -> None:
        """Make an engine for the running event loop. It connects when it is first used."""
        self._pools[asyncio.get_running_loop()] = _Pool(config)

    async def close(self) -> None:
        """Close the engine of the running event loop and all its connections."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None and pool.engine is not None:
            await pool.engine.dispose()

    def _pool(self) -> _Pool:
        loop = _running_loop()
        pool = None if loop is None else self._pools.get(loop)
        if pool is None:
            raise NotInitializedError(
                "There is no database engine for this event loop. In a worker the app makes it "
                "before the first task; elsewhere call AsyncRuntime.init(app), or in a loop of "
                "your own: provider = DatabaseProvider(DatabaseConfig()); await provider.startup()"
            )
        return pool


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


db: Final = Database()
"""The database of the running task."""
