"""The app: ``python app.py`` creates the tables, ``celery -A app worker`` starts a worker."""

from models import create_tables

from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig
from tomskit.sqlalchemy import DatabaseConfig


class Database(DatabaseConfig):
    """A SQLite file in the current folder, unless the environment names another database."""

    SQLALCHEMY_DATABASE_URI_SCHEME: str = "sqlite+aiosqlite"
    DB_DATABASE: str = "quickstart.db"


app = AsyncCelery("quickstart", config=CeleryConfig(), database=Database(), include=["tasks"])

if __name__ == "__main__":
    AsyncRuntime.run(create_tables())
