"""Where toms-fast has AsyncCelery and what goes with it; import them from ``tomskit.celery``."""

from tomskit.celery._running.runner import AsyncTaskRunner
from tomskit.celery._running.runtime import AsyncRuntime
from tomskit.celery._tasks.decorator import async_shared_task
from tomskit.celery.app import AsyncCelery, celery_context

__all__ = (
    "AsyncCelery",
    "AsyncRuntime",
    "AsyncTaskRunner",
    "async_shared_task",
    "celery_context",
)
