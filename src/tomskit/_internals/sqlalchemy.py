"""SQLAlchemy: how a pool hands out a connection, how a driver makes one, and how a commit waits.

`AsyncAdaptedQueuePool._do_get`
    For: waiting longer than ``pool_timeout`` for a free connection.
    When it is missing: no session waits longer; SQLAlchemy raises its TimeoutError.

``async_creator_fn`` among the arguments of the event ``do_connect``
    For: limiting how long connecting and logging in take.
    When it is missing: no connection can be made, and the driver says that it does not know this argument.

The name of a pool's logger, made of its class's ``__module__`` and name
    For: log lines of our pool that filters for ``sqlalchemy.pool`` find.
    When it changes: these lines have another logger's name.

``sqlalchemy.util.await_only``, in what an asynchronous session calls when it commits
    For: ``delay_on_commit`` in eager mode, whose task the commit waits for while other coroutines go on.
    When it is missing: an import of tomskit.sqlalchemy raises ImportError.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_only
from typing_extensions import override

__all__ = ("CREATOR", "QueuePool", "wait_in_session")

CREATOR: Final = "async_creator_fn"
"""The argument that gives a dialect a function to connect with, in place of its driver's."""

T = TypeVar("T")


def wait_in_session(awaitable: Awaitable[T]) -> T:
    """Wait in code that an asynchronous session calls, while other coroutines go on.

    Raises:
        sqlalchemy.exc.MissingGreenlet: It is called elsewhere.
    """
    return await_only(awaitable)


class QueuePool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool of asynchronous engines; subclasses may override how it hands out."""

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A subclass logs as SQLAlchemy's own pools do.
        cls.__module__ = AsyncAdaptedQueuePool.__module__

    def take(self) -> ConnectionPoolEntry:
        """A free connection, or a new one where the limits allow it.

        Raises:
            sqlalchemy.exc.TimeoutError: None was free within the pool's timeout.
        """
        return super()._do_get()

    @override
    def _do_get(self) -> ConnectionPoolEntry:
        return self.take()
