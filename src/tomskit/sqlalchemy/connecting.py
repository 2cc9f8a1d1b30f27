"""A limit for connecting to a database, with every driver, and dropping connections that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine import ExceptionContext

from tomskit._internals.sqlalchemy import CREATOR
from tomskit.sqlalchemy.away import is_lost, is_read_only

__all__ = ("drop_lost_connections", "limit_connecting")

_CONNECT: Final = {
    "aiomysql": "connect",
    "asyncpg": "connect",
    "psycopg": "AsyncConnection.connect",
}
"""How each driver connects. Those of SQLite use no network."""

_OWN_LIMITS: Final = ("connect_timeout", "timeout")
"""The drivers' own limits, which do not cover everything: aiomysql's does not cover the login."""

_READ_ONLY: Final = "postgresql_readonly"
"""SQLAlchemy's execution option of a transaction that is not to write, whatever the server could."""


def limit_connecting(engine: Engine, seconds: float) -> None:
    """Limit how long connecting and logging in may take; a longer limit in the URL is kept.

    aiomysql would wait for ever for a server that accepts a connection and never answers, asyncpg for a
    minute or two.
    """

    def on_connect(
        dialect: Dialect, _entry: object, _arguments: object, options: dict[str, Any]
    ) -> None:
        connect = options.get(CREATOR) or _connect_of(dialect.driver)
        if connect is not None:
            longest = max(seconds, *(_seconds(options.get(name)) for name in _OWN_LIMITS))
            options[CREATOR] = partial(_within, longest, connect)

    event.listen(engine, "do_connect", on_connect)


def drop_lost_connections(engine: Engine) -> None:
    """Let an engine drop a connection of which only the driver knows that it is lost, and those that are as old.

    So it does where the server has become read-only: another one may have taken over its name.
    """
    event.listen(engine, "handle_error", _note_loss)


def _note_loss(context: ExceptionContext) -> None:
    error, connection = context.original_exception, context.connection
    wants_no_writes = (
        connection is not None and connection.get_execution_options().get(_READ_ONLY) is True
    )
    # SQLAlchemy puts errors of its own in the place of asyncpg's, and knows them by what it raises.
    raised = context.sqlalchemy_exception or error
    is_useless = is_lost(error) or (is_read_only(raised) and not wants_no_writes)
    if is_useless and not context.is_disconnect:
        context.is_disconnect = True


def _connect_of(driver: str) -> Callable[..., Awaitable[object]] | None:
    path = _CONNECT.get(driver)
    if path is None:
        return None
    found: Callable[..., Awaitable[object]] = attrgetter(path)(import_module(driver))
    return found


def _seconds(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return 0.0


async def _within(
    seconds: float, connect: Callable[..., Awaitable[object]], *args: object, **options: object
) -> object:
    try:
        async with asyncio.timeout(seconds):
            return await connect(*args, **options)
    except TimeoutError as exc:
        raise TimeoutError(
            f"The database has not answered a new connection within {seconds:g} s. Is it overloaded, or "
            "does a firewall drop the packets? SQLALCHEMY_CONNECT_TIMEOUT sets this limit."
        ) from exc
