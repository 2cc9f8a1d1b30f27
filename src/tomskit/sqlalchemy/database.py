"""``db``: the session of the running task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

import sqlalchemy.ext.asyncio
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import ConnectionPoolEntry
from typing_extensions import deprecated, override

from tomskit._internals.sqlalchemy import QueuePool
from tomskit.defaults import is_configured
from tomskit.errors import ConfigurationError, MissingDriverError, NotInitializedError
from tomskit.sqlalchemy.config import MYSQL_PORT_IS_MISSING, DatabaseConfig
from tomskit.sqlalchemy.connecting import drop_lost_connections, limit_connecting
from tomskit.sqlalchemy.cutting import cut
from tomskit.sqlalchemy.explaining import explain_lazy_loading
from tomskit.sqlalchemy.sessions import ENDED, watch
from tomskit.sqlalchemy.tracked import end_session, new_session

__all__ = ("Database", "DatabaseSession", "SessionScope", "db")

logger: Final = logging.getLogger(__name__)

_EXTRAS: Final = {
    "aiomysql": "mysql",
    "pymysql": "mysql",
    "aiosqlite": "sqlite",
    "asyncpg": "postgres",
    "psycopg": "postgres",
}
_WARN_AFTER: Final = 30.0
"""Seconds for which a session waits for a connection before a warning is logged, and again."""
_CLOSE_SECONDS: Final = 5.0
"""How long an engine may take to close its connections: asyncpg waits for seconds for each that does not answer."""
_CUT_SECONDS: Final = 1.0
"""How long one cancellation of that may take."""
_WAY_OUT: Final = (
    "Use it inside a task or a coroutine given to AsyncRuntime.run or AsyncTaskRunner, "
    "or open a scope yourself: async with db.scope(): ..."
)


class _WaitingPool(QueuePool):
    """Lets a session wait for a free connection without a limit, where SQLAlchemy's pool raises.

    A thousand tasks that share ten connections wait their turn. A task's time limits end the wait.
    """

    @override
    def take(self) -> ConnectionPoolEntry:
        waited = 0.0
        while True:
            try:
                return super().take()
            except SQLAlchemyTimeoutError:
                waited += _WARN_AFTER
                logger.warning(
                    "A session has been waiting for a database connection for %gs: all %d are in "
                    "use. A task holds its connection from its first statement to the commit, the "
                    "rollback or its end; SQLALCHEMY_POOL_SIZE and SQLALCHEMY_MAX_OVERFLOW limit "
                    "the number of connections.",
                    waited,
                    self.checkedout(),
                )


class _Pool:
    """The engine of one event loop, or the error that says why there is none."""

    __slots__ = ("before_close", "config", "engine", "missing")

    def __init__(self, config: DatabaseConfig) -> None:
        self.config: DatabaseConfig = config
        self.before_close: list[Callable[[], Awaitable[object]]] = []
        self.engine: AsyncEngine | None = None
        self.missing: MissingDriverError | None = None
        options: dict[str, Any] = {**config.SQLALCHEMY_ENGINE_OPTIONS}
        if "pool_size" in options:
            options |= {"poolclass": _WaitingPool, "pool_timeout": _WARN_AFTER}
        try:
            # Looked up now, since tracing libraries replace it.
            create = sqlalchemy.ext.asyncio.create_async_engine
            self.engine = create(config.SQLALCHEMY_DATABASE_URI, **options)
            drop_lost_connections(self.engine.sync_engine)
            explain_lazy_loading(self.engine.sync_engine)
            watch(self.engine.sync_engine)
            limit_connecting(self.engine.sync_engine, config.SQLALCHEMY_CONNECT_TIMEOUT)
            if config.mysql_port_is_missing:
                event.listen(self.engine.sync_engine, "handle_error", _name_the_port)
        except ModuleNotFoundError as exc:
            # Tasks that never use the database run without its driver: the error is raised at the
            # first use of db.session.
            name = (exc.name or "").partition(".")[0]
            extra = _EXTRAS.get(name)
            command = f"tomskit[{extra}]" if extra else name
            text = (
                f"The database URL's scheme {config.SQLALCHEMY_DATABASE_URI_SCHEME!r} needs the "
                f"package {name!r}, which is not installed: pip install '{command}'"
            )
            if not is_configured(config):
                text = (
                    "No database is configured: set CELERY_SQLALCHEMY_DATABASE_URI, or "
                    f"SQLALCHEMY_DATABASE_URI. Without it the default holds. {text}"
                )
            self.missing = MissingDriverError(text)
            logger.debug("No database engine yet: %s", self.missing)

    def require(self) -> AsyncEngine:
        if self.engine is None:
            assert self.missing is not None  # noqa: S101 (one of the two is always set)
            raise self.missing
        return self.engine


def _name_the_port(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if context.connection is None and error is not None:
        error.add_detail(MYSQL_PORT_IS_MISSING)


class SessionScope(AbstractAsyncContextManager["SessionScope", None]):
    """Surrounds a task: holds at most one session, opened at first use and closed at the end."""

    __slots__ = ("_loop", "_open", "_pool", "_session", "_token", "_variable")

    def __init__(
        self,
        variable: ContextVar[SessionScope | None],
        loop: asyncio.AbstractEventLoop | None,
        pool: _Pool,
    ) -> None:
        self._variable = variable
        self._loop = loop
        self._pool = pool
        self._session: AsyncSession | None = None
        self._token: Token[SessionScope | None] | None = None
        self._open = False

    @property
    def session(self) -> AsyncSession:
        """The session of this scope."""
        if not self._open:
            raise NotInitializedError(ENDED)
        if _running_loop() is not self._loop:
            raise NotInitializedError(
                "db.session was used in another event loop than its task's, or in a plain thread. "
                f"{_WAY_OUT}"
            )
        if self._session is None:
            self._session = new_session(self._pool.require())
        return self._session

    @override
    async def __aenter__(self) -> Self:
        if self._open:
            raise ConfigurationError(
                "This scope is entered already, and a second task in it would share its session. Make a scope "
                "for each: async with db.scope()"
            )
        self._open = True
        self._token = self._variable.set(self)
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
            # Where it is left in another context than it was entered in, as by a fixture or an
            # asynchronous generator, there is nothing to set back.
            try:  # noqa: SIM105 (for each task, and three times as fast as what it asks for)
                self._variable.reset(self._token)
            except ValueError:
                pass
        session, self._session = self._session, None
        if session is not None:
            # A cancellation must not interrupt it, or the connection would go back to the pool with
            # its transaction open.
            ending = end_session(session, ENDED, asyncio.current_task())
            await asyncio.shield(asyncio.ensure_future(ending))


class Database:
    """The sessions and engines of this process; each event loop that runs tasks has an engine.

    A connection belongs to the loop that opened it, so every loop has its own pool; all tasks of
    a loop share it.

    Each object is a database of its own, with its own sessions, scopes and engines. ``db`` is the
    app's. For another one give the app a provider, with a name of its own::

        reports = Database()
        DatabaseProvider(config, database=reports, name="reports")
    """

    def __init__(self) -> None:
        self._scope: ContextVar[SessionScope | None] = ContextVar(
            "tomskit_session_scope", default=None
        )
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    @property
    def session(self) -> AsyncSession:
        """The session of the running task, opened at first use.

        It is closed when the task ends, and what was not committed is rolled back; nothing is
        committed for you. Tasks never share a session. The children of ``asyncio.gather`` share
        their task's, and a session runs one statement at a time: give concurrent children scopes
        of their own.

        Raises:
            NotInitializedError: Outside of a task and of ``async with db.scope()``.
            MissingDriverError: The driver that the URL names is not installed.
        """
        scope = self._scope.get()
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

    @property
    def config(self) -> DatabaseConfig:
        """Where the database of the running event loop is.

        Raises:
            NotInitializedError: No engine was opened for this loop.
        """
        return self._pool().config

    def scope(self) -> SessionScope:
        """Make a scope with a session of its own: ``async with db.scope(): ... db.session ...``.

        Raises:
            NotInitializedError: No engine was opened for the running event loop.
        """
        # As `_pool`, with two calls fewer: each task has a scope.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return SessionScope(self._scope, None, self._pool_of(None))
        pool = self._pools.get(loop)
        return SessionScope(self._scope, loop, self._pool_of(loop) if pool is None else pool)

    def open(self, config: DatabaseConfig) -> None:
        """Make an engine for the running event loop. It connects when it is first used.

        Raises:
            ConfigurationError: There is one already.
        """
        loop = asyncio.get_running_loop()
        if loop in self._pools:
            raise ConfigurationError(
                "This Database object is open already in this event loop, so db.session would go to "
                "one database for some code and to another one for the rest. A second database is an "
                "object of its own: reports = Database(); "
                'DatabaseProvider(config, database=reports, name="reports")'
            )
        self._pools[loop] = _Pool(config)

    @deprecated("create_session_pool_from_config is now called open")
    def create_session_pool_from_config(self, config: DatabaseConfig) -> None:
        """As `open`."""
        self.open(config)

    @deprecated("close_session_pool is now called close")
    async def close_session_pool(self) -> None:
        """As `close`."""
        await self.close()

    async def close(self) -> None:
        """Close the engine of the running event loop and all its connections."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is None:
            return
        try:
            for callback in pool.before_close:
                await callback()
        finally:
            self._pools.pop(asyncio.get_running_loop(), None)
            if pool.engine is not None:
                await _dispose(pool.engine)

    def before_close(self, callback: Callable[[], Awaitable[object]]) -> None:
        """Await what `callback` returns before the engine of the running event loop is closed.

        Raises:
            NotInitializedError: No engine was opened for this loop.
        """
        self._pool().before_close.append(callback)

    async def create_tables(self) -> None:
        """Create the tables of ``delay_on_commit`` and ``once=True``, where they are missing.

        With Alembic use `tomskit.sqlalchemy.tables.metadata` in place of this.
        """
        try:
            await self._create_tables()
        except DBAPIError:
            # Another process may have made them at the same moment.
            await self._create_tables()

    async def _create_tables(self) -> None:
        from tomskit.sqlalchemy.tables import metadata

        async with self.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    def _pool(self) -> _Pool:
        return self._pool_of(_running_loop())

    def _pool_of(self, loop: asyncio.AbstractEventLoop | None) -> _Pool:
        pool = None if loop is None else self._pools.get(loop)
        if pool is None:
            raise NotInitializedError(
                "There is no database engine for this event loop. In a worker the app makes it "
                "before the first task; elsewhere call AsyncRuntime.init(app), or in a loop of "
                "your own: provider = DatabaseProvider(DatabaseConfig()); await provider.startup()"
            )
        return pool


async def _dispose(engine: AsyncEngine) -> None:
    """Close the connections of an engine; those that do not answer one after the other are left to themselves."""
    closing = asyncio.ensure_future(engine.dispose())
    _, unfinished = await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
    if not unfinished:
        await closing
        return
    await cut(closing, seconds=_CUT_SECONDS)
    logger.warning(
        "The database has not answered within %gs that its connections are closed. They are dropped.",
        _CLOSE_SECONDS,
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


db: Final = Database()
"""The database of the running task."""


@deprecated("DatabaseSession is now called Database")
class DatabaseSession(Database):
    """The name that Database has in toms-fast."""
