"""The app, and its two databases."""

import os

from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.sqlalchemy import Database, DatabaseConfig, DatabaseProvider

reports = Database()

app = AsyncCelery(
    "shop",
    config=CeleryConfig(),
    providers=[
        DatabaseProvider(
            DatabaseConfig(SQLALCHEMY_DATABASE_URI=os.environ["REPORTS_URL"]),
            database=reports,
            name="reports",
        )
    ],
    include=["tasks"],
)
