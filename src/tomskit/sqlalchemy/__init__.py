"""A SQLAlchemy ``AsyncSession`` for every task."""

from tomskit.sqlalchemy.config import DatabaseConfig
from tomskit.sqlalchemy.provider import DatabaseProvider

__all__ = ("DatabaseConfig", "DatabaseProvider")
