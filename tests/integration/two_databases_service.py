"""The application of workers whose tasks use two databases."""

from __future__ import annotations

import json
import os

from sqlalchemy import text

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.sqlalchemy import Database, DatabaseConfig, DatabaseProvider, db

reports = Database()

app = AsyncCelery(
    "two-databases",
    config=CeleryConfig(),
    providers=[
        DatabaseProvider(
            DatabaseConfig.model_validate(json.loads(os.environ["REPORTS"])),
            database=reports,
            name="reports",
        )
    ],
)


@async_shared_task(name="note")
async def note(words: str, *, fail: bool = False) -> list[list[str]]:
    """Write words into both databases, commit the app's only, and read both."""
    found: list[list[str]] = []
    for database in (db, reports):
        await database.session.execute(
            text("INSERT INTO notes (words) VALUES (:words)"), {"words": words}
        )
        rows = await database.session.scalars(text("SELECT words FROM notes ORDER BY words"))
        found.append([str(row) for row in rows])
    await db.session.commit()
    if fail:
        raise ValueError(words)
    return found
