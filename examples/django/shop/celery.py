"""The Celery app: ``celery -A shop worker``. Only the class differs from Django's usual recipe."""

import os

from tomskit.celery import AsyncCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = AsyncCelery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
