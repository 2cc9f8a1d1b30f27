"""TrackedSession: an AsyncSession that knows which asyncio tasks use it at this moment."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import wraps
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tomskit.sqlalchemy.sessions import TaskSession

__all__ = ("SessionUse", "end_session", "new_session", "wait_for_users")

logger: Final = logging.getLogger(__name__)

GRACE_SECONDS: Final = 2.0
"""How long a statement of a child may go on after its task has ended; then the child is cancelled."""

_END_SECONDS: Final = 10.0
"""How long the connection may take to be rolled back and given back; then it is dropped."""

_LOOK_SECONDS: Final = 0.05

_STATEMENTS: Final = (
    *("commit", "connection", "delete", "execute", "flush", "get", "get_one"),
    *("invalidate", "merge", "refresh", "reset", "rollback", "run_sync", "scalar", "scalars"),
    *("stream", "stream_scalars"),
)
"""Methods of AsyncSession that talk to the database while they are awaited."""

SessionUse = Counter[asyncio.Task[Any]]
"""How many calls of a session each asyncio task awaits."""


def _counted(method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    @wraps(method)
    async def counted(self: AsyncSession, *args: object, **kwargs: object) -> object:
        use: SessionUse = self.info[SessionUse]
        task = asyncio.current_task()
        if task is None:
            return await method(self, *args, **kwargs)
        use[task] += 1
        try:
            return await method(self, *args, **kwargs)
        finally:
            use[task] -= 1
            if not use[task]:
                del use[task]

    return counted


_untyped: Any = AsyncSession
_TrackedSession: Final[type[AsyncSession]] = type(
    AsyncSession.__name__,
    (AsyncSession,),
    {name: _counted(getattr(_untyped, name)) for name in _STATEMENTS},
)


def new_session(engine: AsyncEngine) -> AsyncSession:
    """A session for a task.

    Objects stay readable after a commit: an expired attribute would be reloaded when it is read, and
    an attribute access cannot be awaited.
    """
    return _TrackedSession(
        engine,
        expire_on_commit=False,
        sync_session_class=TaskSession,
        info={SessionUse: SessionUse()},
    )


async def end_session(session: AsyncSession, ended: str, owner: asyncio.Task[Any] | None) -> None:
    """Close a session for good, whoever still uses it, and roll back what was not committed.

    Errors are logged: what the task returned or raised stands.

    Args:
        session: Made by `new_session`.
        ended: What an error says to code that uses the session from now on.
        owner: The asyncio task that has left the session's scope.
    """
    sync = session.sync_session
    connections: tuple[Connection, ...] = ()
    if isinstance(sync, TaskSession):
        sync.ended = ended
    if users := _users_of(session, owner):
        await _end(users)
    if isinstance(sync, TaskSession):
        # SQLAlchemy forgets them when it cannot close them, and they would be missing from the pool.
        connections = sync.connections
    try:
        async with asyncio.timeout(_END_SECONDS):
            await session.close()
    except Exception:
        logger.exception("A database session could not be closed; its connection is dropped")
        try:
            async with asyncio.timeout(_END_SECONDS):
                await session.invalidate()
                await session.run_sync(lambda _: _drop(connections))
        except Exception:
            logger.exception("The connection of a database session could not be dropped")


def _drop(connections: Iterable[Connection]) -> None:
    for connection in connections:
        if not connection.closed:
            connection.invalidate()


async def wait_for_users(session: AsyncSession) -> None:
    """Wait until no other asyncio task executes a statement of a session, which is about to be committed.

    None is cut, as its transaction would be lost with it. The caller lets no new statements begin, by the
    session's ``finisher``, and its time limits end the wait.
    """
    owner = asyncio.current_task()
    if users := _users_of(session, owner):
        logger.warning("%s The commit waits for the statement.", _still_used_by(users))
    while users := _users_of(session, owner):
        # The statement may end long before the coroutine does, and nothing tells that it has.
        await asyncio.wait(users, timeout=_LOOK_SECONDS)


def _users_of(
    session: AsyncSession, owner: asyncio.Task[Any] | None
) -> Collection[asyncio.Task[Any]]:
    users: set[asyncio.Task[Any]] = set(session.info[SessionUse])
    sync = session.sync_session
    if isinstance(sync, TaskSession) and sync.user is not None and not sync.user.done():
        users.add(sync.user)
    return users - {owner}


async def _end(users: Collection[asyncio.Task[Any]]) -> None:
    logger.warning(
        "%s They are cancelled unless the statement ends within %gs.",
        _still_used_by(users),
        GRACE_SECONDS,
    )
    _, running = await asyncio.wait(users, timeout=GRACE_SECONDS)
    if running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_END_SECONDS)
    if running:
        logger.error("%s did not end when it was cancelled", _names_of(running))


def _still_used_by(users: Collection[asyncio.Task[Any]]) -> str:
    return (
        f"A task has ended while its db.session was still in use by {_names_of(users)}, which it left running. "
        "Await such coroutines in the task, or give them sessions of their own: async with db.scope(): ..."
    )


def _names_of(users: Collection[asyncio.Task[Any]]) -> str:
    return ", ".join(sorted(map(_name_of, users)))


def _name_of(task: asyncio.Task[Any]) -> str:
    name: str = getattr(task.get_coro(), "__qualname__", "a coroutine")
    return f"{name} ({task.get_name()})"
