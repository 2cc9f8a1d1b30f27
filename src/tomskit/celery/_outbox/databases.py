"""The database in which a task with once=True has its effects.

SQLAlchemy is imported where a task uses it: a program that only sends tasks starts without it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, Task

from tomskit.celery._app import AsyncApp
from tomskit.errors import ConfigurationError

if TYPE_CHECKING:
    from tomskit.sqlalchemy.database import Database

__all__ = ("committing", "database_named", "database_of")

committing: Final[ContextVar[Database | None]] = ContextVar("tomskit_committing", default=None)
"""The database of the running body that is committed once."""


def database_named(app: Celery, name: str | None) -> Database:
    """The database of the provider with this name; None is for ``db``.

    Raises:
        ConfigurationError: The app has no such provider, or it is none of a database.
    """
    from tomskit.sqlalchemy import DatabaseProvider, db

    if name is None:
        return db
    providers = app.resources.providers if isinstance(app, AsyncApp) else ()
    for provider in providers:
        if provider.name == name and isinstance(provider, DatabaseProvider):
            return provider.database
    known = sorted(one.name for one in providers if isinstance(one, DatabaseProvider))
    raise ConfigurationError(
        f"once={name!r} names no database of the app. A provider of that name is missing: "
        f"AsyncCelery(providers=[DatabaseProvider(config, database=Database(), name={name!r})]). "
        f"It has {', '.join(map(repr, known)) or 'none'}."
    )


def database_of(task: Task[..., Any]) -> Database | None:
    """The database in which a task with ``once=True`` has its effects; None for any other task.

    Raises:
        ConfigurationError: It names a provider that the app does not have.
    """
    once: bool | str = getattr(task, "_tomskit_once", False)
    return database_named(task.app, once if isinstance(once, str) else None) if once else None
