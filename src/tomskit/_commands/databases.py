"""What ``celery doctor`` looks at in the databases of an app."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect

from tomskit._commands.examination import Finding, described, unless_configured
from tomskit.celery._outbox.databases import database_of
from tomskit.celery._outbox.relay import waiting_in
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._worker import overview
from tomskit.celery._worker.connections import admitted, largest_pool
from tomskit.defaults import is_configured
from tomskit.errors import ConfigurationError
from tomskit.sqlalchemy import DatabaseProvider
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.tables import once

if TYPE_CHECKING:
    from tomskit.celery.app import AsyncCelery

__all__ = ("databases", "where_databases_are")

_OUTBOX_ROUNDS: Final = 3
"""A message that waits longer than so many CELERY_OUTBOX_INTERVAL is not published by anyone."""


def databases(app: AsyncCelery) -> Iterator[Finding]:
    """Does each database answer, have the tables, and admit as many connections as its pool may open?"""
    providers = [p for p in app.resources.providers if isinstance(p, DatabaseProvider)]
    if not providers:
        yield Finding("database", "skipped", "a provider of yours takes its place")
    marked, unknown = _tasks_that_run_once(app)
    for provider in providers:
        yield from _database(app, provider, marked.get(provider.database, []))
    yield from unknown


def where_databases_are(app: AsyncCelery) -> str:
    """The addresses of the databases."""
    providers = (p for p in app.resources.providers if isinstance(p, DatabaseProvider))
    return ", ".join(map(overview.described, providers))


def _database(app: AsyncCelery, provider: DatabaseProvider, marked: list[str]) -> Iterator[Finding]:
    is_default = provider.name == "database"
    name = provider.name if is_default else f"database {provider.name!r}"
    where = overview.described(provider)
    try:
        limit = asyncio.run(admitted(provider.config))
    except Exception as exc:  # noqa: BLE001 (the finding shows it)
        settings = "SQLALCHEMY_* and DB_*, or CELERY_DB_*"
        if not is_default:
            settings = f"the DatabaseConfig of the provider {provider.name!r}"
        is_needed = is_configured(provider.config) or bool(marked) or not is_default
        yield unless_configured(name, where, exc, settings, is_needed=is_needed)
        return
    yield Finding(name, "ok", f"{where}: it answers")
    yield from _outbox(app, provider)
    if marked:
        yield from _marks(provider, marked)
    largest = largest_pool(provider.config)
    if limit is None or largest is None:
        return
    pool = "pool size" if is_default else f"pool size of {provider.name!r}"
    shown = "any number of" if largest == math.inf else f"up to {largest}"
    detail = f"a process opens {shown} connections, the server admits {limit}"
    if largest <= limit:
        yield Finding(pool, "ok", detail)
    else:
        yield Finding(
            pool,
            "warning",
            detail,
            "Lower SQLALCHEMY_POOL_SIZE (or CELERY_SQLALCHEMY_POOL_SIZE), so that the pools of all "
            "processes fit; tasks then wait for a connection.",
        )


def _outbox(app: AsyncCelery, provider: DatabaseProvider) -> Iterator[Finding]:
    """Do messages of ``delay_on_commit`` wait, and does a worker publish them?"""
    try:
        waiting = asyncio.run(waiting_in(app, provider.config))
    except Exception as exc:  # noqa: BLE001 (the finding shows it)
        yield Finding("outbox", "warning", f"{provider.name!r}: {described(exc)}")
        return
    if waiting is None:
        # Nobody has made our tables, so nobody uses them.
        return
    messages = "message waits" if waiting.count == 1 else "messages wait"
    detail = f"{waiting.count} {messages} in {provider.name!r}"
    if waiting.count:
        detail += f", the oldest for {waiting.oldest_seconds:.0f} s"
    if waiting.oldest_seconds <= _OUTBOX_ROUNDS * app.config.CELERY_OUTBOX_INTERVAL:
        yield Finding("outbox", "ok", detail)
    else:
        yield Finding(
            "outbox",
            "warning",
            detail,
            "Workers publish what is left: see whether one runs, and what its log says of "
            "committed messages.",
        )


def _marks(provider: DatabaseProvider, tasks: list[str]) -> Iterator[Finding]:
    """Is the table there into which tasks with ``once=True`` write their marks?"""
    shown = ", ".join(tasks)
    try:
        has_table = asyncio.run(_has_marks(provider))
    except Exception as exc:  # noqa: BLE001 (the finding shows it)
        yield Finding("once", "warning", f"{provider.name!r}: {described(exc)}")
        return
    if has_table:
        yield Finding("once", "ok", f"{provider.name!r} has the table for {shown}")
    else:
        yield Finding(
            "once",
            "failed",
            f"{provider.name!r} has no table {once.name}, which {shown} needs",
            "Make it: await db.create_tables(), or with Alembic and "
            "tomskit.sqlalchemy.tables.metadata.",
        )


async def _has_marks(provider: DatabaseProvider) -> bool:
    own = Database()
    own.open(provider.config)
    try:
        async with own.engine.connect() as connection:
            return await connection.run_sync(lambda sync: inspect(sync).has_table(once.name))
    finally:
        await own.close()


def _tasks_that_run_once(app: AsyncCelery) -> tuple[dict[Database, list[str]], list[Finding]]:
    """The names of the tasks that run once in each database, and those whose database is unknown."""
    marked: dict[Database, list[str]] = {}
    unknown: list[Finding] = []
    for name, task in sorted(app.tasks.items()):
        if not isinstance(task, AsyncTask):
            continue
        try:
            database = database_of(task)
        except ConfigurationError as exc:
            unknown.append(Finding("once", "failed", str(exc), f"Change the task {name}."))
        else:
            if database is not None:
                marked.setdefault(database, []).append(name)
    return marked, unknown
