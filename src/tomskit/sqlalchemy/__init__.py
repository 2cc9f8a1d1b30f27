"""A SQLAlchemy ``AsyncSession`` for every task.

SQLAlchemy itself is imported with the first name that needs it. `DatabaseConfig` does not: a program that
only sends tasks starts faster without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tomskit.sqlalchemy.config import DatabaseConfig

if TYPE_CHECKING:
    from tomskit.sqlalchemy.database import (  # type: ignore[deprecated]  # (it is here for others)
        Database,
        DatabaseSession,  # pyright: ignore[reportDeprecated] (it is here for others)
        db,
    )
    from tomskit.sqlalchemy.provider import DatabaseProvider

__all__ = ("Database", "DatabaseConfig", "DatabaseProvider", "DatabaseSession", "db")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in {"database", "provider", "tables"}:
            return import_module(f"{__name__}.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        where = "provider" if name == "DatabaseProvider" else "database"
        found = globals()[name] = getattr(import_module(f"{__name__}.{where}"), name)
        return found
