"""The task of `crash_service` on plain Celery: neither this module nor what it imports knows of tomskit."""

from __future__ import annotations

import os
import time

from celery import Celery
from redis import Redis

_HOST = os.environ.get("CELERY_BROKER_REDIS_HOST", "localhost")
_PORT = int(os.environ.get("CELERY_BROKER_REDIS_PORT", "6379"))

app = Celery("crash_stock_service", broker=f"redis://{_HOST}:{_PORT}/0", set_as_current=False)
app.conf.update(
    worker_prefetch_multiplier=int(os.environ.get("CELERY_WORKER_PREFETCH_MULTIPLIER", "4")),
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("CRASH_VISIBILITY_TIMEOUT", "3")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 1000,
    },
)

_redis = Redis(host=_HOST, port=_PORT)


@app.task(
    name="tests.support.crash_service.run_once", acks_late=True, ignore_result=True, shared=False
)
def run_once(number: int) -> None:
    time.sleep(0.001)
    _redis.hincrby("runs", str(number), 1)
