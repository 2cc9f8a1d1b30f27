"""Async tasks for Celery: the app, its configuration, the decorator and the runtime."""

from tomskit.celery.app import AsyncCelery
from tomskit.celery.canvas import (
    ImmutableGroup,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TypedGroup,
    TypedSignature,
    chain,
    chord,
    group,
)
from tomskit.celery.config import CeleryConfig
from tomskit.celery.context import celery_context
from tomskit.celery.options import CallOptions, TaskOptions
from tomskit.celery.result import TypedEagerResult, TypedGroupResult, TypedResult
from tomskit.celery.runner import AsyncTaskRunner
from tomskit.celery.runtime import AsyncRuntime
from tomskit.celery.serializers import register_orjson_serializer
from tomskit.celery.task import AsyncTask, BoundTask, TaskCall, TaskRequest, async_shared_task

__all__ = (
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
    "TypedSignature",
    "async_shared_task",
    "celery_context",
    "chain",
    "chord",
    "group",
    "register_orjson_serializer",
)
