"""Async tasks for Celery: the app, its configuration, the decorator and the runtime."""

from tomskit.celery.app import AsyncCelery
from tomskit.celery.config import CeleryConfig
from tomskit.celery.context import celery_context
from tomskit.celery.runner import AsyncTaskRunner
from tomskit.celery.runtime import AsyncRuntime
from tomskit.celery.serializers import register_orjson_serializer
from tomskit.celery.task import AsyncTask, BoundTask, TaskRequest, async_shared_task

__all__ = (
    "AsyncCelery",
    "AsyncRuntime",
    "AsyncTask",
    "AsyncTaskRunner",
    "BoundTask",
    "CeleryConfig",
    "TaskRequest",
    "async_shared_task",
    "celery_context",
    "register_orjson_serializer",
)
