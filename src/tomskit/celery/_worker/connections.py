"""A warning where a worker could open more connections to a database than the server admits."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from celery.concurrency.prefork import TaskPool as PreforkPool
from sqlalchemy import text

from tomskit.celery._running.forks import between_forks
from tomskit.defaults import is_configured
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.database import Database

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery_worker import Worker

__all__ = ("admitted", "compare", "compare_with_servers", "largest_pool")

logger: Final = logging.getLogger(__name__)

_SECONDS: Final = 10.0
"""How long a server may take to say how many connections it admits."""

_QUESTIONS: Final = {
    "mysql": "SELECT @@max_connections",
    "mariadb": "SELECT @@max_connections",
    "postgresql": "SELECT current_setting('max_connections')",
}


def compare_with_servers(worker: Worker, app: AsyncApp) -> None:
    """Ask the servers of the app's databases, in a thread, and warn of pools that may grow too large.

    A server that does not answer is none of this function's business: tasks will say so.
    """
    configs = [
        (provider.name, provider.config)
        for provider in app.resources.providers
        # Where nothing was set, tasks use no database.
        if isinstance(provider, DatabaseProvider) and is_configured(provider.config)
    ]
    if configs:
        processes = worker.concurrency if issubclass(worker.pool_cls, PreforkPool) else 1
        threading.Thread(
            target=compare, args=(configs, processes), name="tomskit-connections", daemon=True
        ).start()


def compare(configs: Sequence[tuple[str, DatabaseConfig]], processes: int) -> None:
    """Warn of each pool that may grow beyond what its server admits.

    Args:
        configs: Databases, with the names of their providers.
        processes: How many have such pools.
    """
    for name, config in configs:
        most = largest_pool(config)
        if most is None:
            continue
        try:
            with between_forks():
                limit = asyncio.run(admitted(config))
        except Exception as exc:  # noqa: BLE001 (whatever the driver raises)
            logger.debug("No answer to how many connections %r admits: %r", name, exc)
            continue
        if limit is None or most * processes <= limit:
            continue
        options = config.SQLALCHEMY_ENGINE_OPTIONS
        logger.warning(
            "The connections to %r could exceed what its server admits, max_connections = %d: %s in "
            "each process (SQLALCHEMY_POOL_SIZE %d and SQLALCHEMY_MAX_OVERFLOW %d), times %d = %s. The "
            "server refuses the others, and their tasks fail: make the pool smaller, start fewer "
            "processes or raise max_connections.",
            name,
            limit,
            "any number" if most == math.inf else most,
            options.get("pool_size", 0),
            options.get("max_overflow", 0),
            processes,
            "any number" if most == math.inf else most * processes,
        )


def largest_pool(config: DatabaseConfig) -> float | None:
    """How many connections a process may open: infinitely many, or None without a pool of a size."""
    options = config.SQLALCHEMY_ENGINE_OPTIONS
    size, overflow = options.get("pool_size"), options.get("max_overflow", 0)
    if size is None:
        return None
    return math.inf if size == 0 or overflow < 0 else size + overflow


async def admitted(config: DatabaseConfig) -> int | None:
    """Connect as tasks do, and ask how many connections the server admits.

    Returns:
        The number; None where this kind of database has no such limit.

    Raises:
        Exception: Whatever the driver raises where the server cannot be used.
        TimeoutError: It has not answered for ten seconds.
    """
    database = Database()
    database.open(config)
    try:
        async with asyncio.timeout(_SECONDS), database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            question = _QUESTIONS.get(connection.dialect.name)
            return None if question is None else int(await connection.scalar(text(question)) or 0)
    finally:
        await database.close()
