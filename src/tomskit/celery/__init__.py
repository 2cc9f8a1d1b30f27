"""Async tasks for Celery: the app, its configuration, the decorator and the runtime."""

from tomskit.celery._client.result import TypedEagerResult, TypedResult
from tomskit.celery._client.result_sets import TypedGroupResult, TypedResultSet
from tomskit.celery._running.runner import AsyncTaskRunner
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._tasks.bound import BoundTask, TaskRequest
from tomskit.celery._tasks.decorator import async_shared_task
from tomskit.celery._tasks.reporting import report
from tomskit.celery._tasks.signatures import (
    ImmutableGroup,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TypedGroup,
    TypedSignature,
)
from tomskit.celery._tasks.task import AsyncTask, TaskCall
from tomskit.celery._tasks.workflows import chain, chord, group
from tomskit.celery.app import AsyncCelery, celery_context
from tomskit.celery.config import CeleryConfig
from tomskit.celery.context import task_id_context_var
from tomskit.celery.options import AppTaskOptions, CallOptions, TaskOptions
from tomskit.celery.serializers import register_orjson_serializer

__all__ = (
    "AppTaskOptions",
    "AsyncCelery",
    "AsyncRuntime",
    "AsyncTask",
    "AsyncTaskRunner",
    "BoundTask",
    "CallOptions",
    "CeleryConfig",
    "ImmutableGroup",
    "ImmutableSignature",
    "PartialGroup",
    "PartialSignature",
    "TaskCall",
    "TaskOptions",
    "TaskRequest",
    "TypedEagerResult",
    "TypedGroup",
    "TypedGroupResult",
    "TypedResult",
    "TypedResultSet",
    "TypedSignature",
    "async_shared_task",
    "celery_context",
    "chain",
    "chord",
    "group",
    "register_orjson_serializer",
    "report",
    "task_id_context_var",
)
