"""A warning where a worker could open more connections to a database than the server admits."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from celery.concurrency.prefork import TaskPool as PreforkPool
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider

if TYPE_CHECKING:
    from tomskit.celery._app import AsyncApp
    from tomskit.celery._internals.celery_worker import Worker

__all__ = ("compare", "compare_with_servers")

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
        if isinstance(provider, DatabaseProvider) and provider.config.model_fields_set
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
        options = config.SQLALCHEMY_ENGINE_OPTIONS
        size, overflow = options.get("pool_size"), options.get("max_overflow", 0)
        if size is None:
            continue
        try:
            admitted = asyncio.run(_admitted(config))
        except Exception as exc:  # noqa: BLE001 (whatever the driver raises)
            logger.debug("No answer to how many connections %r admits: %r", name, exc)
            continue
        most = None if size == 0 or overflow < 0 else size + overflow
        if admitted is None or (most is not None and most * processes <= admitted):
            continue
        logger.warning(
            "The connections to %r could exceed what its server admits, max_connections = %d: %s in "
            "each process (SQLALCHEMY_POOL_SIZE %d and SQLALCHEMY_MAX_OVERFLOW %d), times %d = %s. The "
            "server refuses the others, and their tasks fail: make the pool smaller, start fewer "
            "processes or raise max_connections.",
            name,
            admitted,
            "any number" if most is None else most,
            size,
            overflow,
            processes,
            "any number" if most is None else most * processes,
        )


async def _admitted(config: DatabaseConfig) -> int | None:
    dialect = config.SQLALCHEMY_DATABASE_URI_SCHEME.partition("+")[0]
    if dialect not in _QUESTIONS:
        return None
    async with asyncio.timeout(_SECONDS):
        engine = create_async_engine(config.SQLALCHEMY_DATABASE_URI, poolclass=NullPool)
        async with engine.connect() as connection:
            return int(await connection.scalar(text(_QUESTIONS[dialect])) or 0)
