"""The app: ``celery -A worker worker`` starts a worker."""

from tomskit.celery import AsyncCelery, CeleryConfig

app = AsyncCelery("exports", config=CeleryConfig(), include=["exports"])
