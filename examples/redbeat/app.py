"""The app: ``celery -A app worker``, and ``celery -A app beat --scheduler=redbeat.RedBeatScheduler``."""

from tomskit.celery import AsyncCelery, CeleryConfig

app = AsyncCelery("shop", config=CeleryConfig(), include=["tasks"])
# Seconds after which another beat takes over when one has been killed.
app.conf.redbeat_lock_timeout = 30
