"""The database as a resource of tasks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tomskit.sqlalchemy.config import DatabaseConfig
from tomskit.sqlalchemy.database import db

__all__ = ("DatabaseProvider",)


class DatabaseProvider:
    """Opens ``db`` for an event loop and puts a session scope around each task."""

    name = "database"

    def __init__(self, config: DatabaseConfig) -> None:
        self.config = config

    async def startup(self) -> None:
        """Make the engine. It connects when a task first uses its session."""
        db.open(self.config)

    async def shutdown(self) -> None:
        """Close all connections of the running event loop."""
        await db.close()

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        """A scope in which ``db.session`` is a new session."""
        return db.scope()
