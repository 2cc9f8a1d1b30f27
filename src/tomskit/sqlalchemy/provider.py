"""The database as a resource of tasks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tomskit.sqlalchemy.config import DatabaseConfig
from tomskit.sqlalchemy.database import Database, db

__all__ = ("DatabaseProvider",)


class DatabaseProvider:
    """Opens a database for an event loop and puts a session scope around each task.

    Args:
        config: Where the database is.
        database: What tasks use it by: `db`, or a `Database` of your own.
        name: Of the provider; two of an app need different ones.
    """

    def __init__(
        self, config: DatabaseConfig, *, database: Database = db, name: str = "database"
    ) -> None:
        self.config = config
        self.database = database
        self.name = name

    async def startup(self) -> None:
        """Make the engine. It connects when a task first uses its session.

        Raises:
            ConfigurationError: The database is open already in this event loop.
        """
        self.database.open(self.config)

    async def shutdown(self) -> None:
        """Close all connections of the running event loop."""
        await self.database.close()

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        """A scope in which the ``session`` of the database is a new session."""
        return self.database.scope()
