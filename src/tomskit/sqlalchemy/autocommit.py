"""Whether a connection commits each statement."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection

__all__ = ("is_autocommit",)


def is_autocommit(connection: Connection) -> bool:
    """Whether each statement is committed: by an option here, of the engine, or of the driver's URL."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    # SQLAlchemy makes all drivers look alike here, except those of MySQL, whose method 2.0.36 hides.
    driver: Any = connection.connection.dbapi_connection
    asks: Any = getattr(connection.connection.driver_connection, "get_autocommit", None)
    if asks is not None:
        return bool(asks())
    if connection.dialect.name == "sqlite":
        # Where it is None, a program may begin transactions by itself.
        used: Any = connection.connection.driver_connection
        return getattr(driver, "isolation_level", "") is None and not used.in_transaction
    return bool(getattr(driver, "autocommit", False))
