"""Settings of the project; those of Celery begin with CELERY_."""

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only for development")
INSTALLED_APPS = ["shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", "shop.db"),
        # Several processes write: wait for a lock rather than fail.
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
# Django sets the time zone of the process, by default that of Chicago: also of the worker's log.
TIME_ZONE = "UTC"

CELERY_BROKER_URL = os.environ.get("SHOP_BROKER", "redis://localhost:6379/0")
CELERY_RESULT_BACKEND = os.environ.get("SHOP_RESULTS", "redis://localhost:6379/1")
CELERY_TASK_TRACK_STARTED = True
