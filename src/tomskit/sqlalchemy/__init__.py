"""A SQLAlchemy ``AsyncSession`` for every task."""

from tomskit.sqlalchemy.config import DatabaseConfig
from tomskit.sqlalchemy.database import (  # type: ignore[deprecated]  # (it is here for others)
    Database,
    DatabaseSession,  # pyright: ignore[reportDeprecated] (it is here for others)
    db,
)
from tomskit.sqlalchemy.provider import DatabaseProvider

__all__ = ("Database", "DatabaseConfig", "DatabaseProvider", "DatabaseSession", "db")
