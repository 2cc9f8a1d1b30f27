"""The app. Its database is the one that is migrated."""

from tomskit.celery import AsyncCelery, CeleryConfig

app = AsyncCelery("shop", config=CeleryConfig(), include=["tasks"])
