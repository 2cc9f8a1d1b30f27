"""What ``alembic`` runs: the migrations, with the engine of the tasks."""

from alembic import context
from app import app
from models import Base
from sqlalchemy import Connection

from tomskit.celery import AsyncRuntime
from tomskit.sqlalchemy import tables
from tomskit.sqlalchemy.database import db


def migrate(connection: Connection) -> None:
    # SQLite changes a table only by making it anew.
    batch = connection.dialect.name == "sqlite"
    metadata = [Base.metadata, tables.metadata]
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=batch)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    async with db.engine.connect() as connection:
        await connection.run_sync(migrate)


app.set_current()
AsyncRuntime.run(main())
